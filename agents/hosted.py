"""A model behind an endpoint that takes messages: asked outright, or as an agent; nothing here can be trained."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..envs import AgentError, Message, Messages, Text, UsageError
from .asked import number
from .chat import Decoding
from .core import Action, ContextFull, Turn
from .endpoint import Endpoint, Refused
from .memory import MEMORIES, Memory

_FULL = re.compile(r"context[ _](length|window|size)|maximum model length|prompt is too long", re.IGNORECASE)
_DATED = r"(-\d{4}(-?\d{2}-?\d{2})?)?"  # a name may be answered by that of a dated copy
USUAL = Decoding(temperature=0.0, max_tokens=256)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered: its words without its reasoning, why it ended (``stop``, ``length``, ...), tokens."""

    text: str
    finish: str
    read: int  # tokens of the prompt; 0 when the server does not say
    written: int


@dataclass(frozen=True, slots=True)
class Hosted:
    """The model of this name at ``endpoint``."""

    endpoint: Endpoint
    model: str

    async def ask(self, messages: Messages, decoding: Decoding = USUAL, seed: tuple[int, ...] = ()) -> Reply:
        """Its answer to ``messages``. Raises like ``choice``."""
        return await self._ask([said(message) for message in messages], decoding, seed)

    async def _ask(self, messages: Sequence[Mapping[str, Any]], decoding: Decoding, seed: tuple[int, ...]) -> Reply:
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": decoding.temperature,
            "max_tokens": decoding.max_tokens,
        }
        if seed and decoding.temperature:
            body["seed"] = number(seed)
        found, answer = await choice(self.endpoint, "/chat/completions", body)
        message = found.get("message")
        if not isinstance(message, dict):
            raise AgentError(f"{self.endpoint.url}/chat/completions: the answer has no message")
        usage = answer.get("usage")
        read, written = (usage.get(f"{n}_tokens") if isinstance(usage, dict) else 0 for n in ("prompt", "completion"))
        counts = [n if type(n) is int else 0 for n in (read, written)]
        return Reply(_text(message.get("content")), str(found.get("finish_reason")), *counts)


@dataclass(frozen=True, slots=True)
class HostedAgent:
    """One episode's agent: remembers by ``memory``, speaks in messages; its actions have no calls to learn from."""

    hosted: Hosted
    memory: Memory = MEMORIES["compressed"]
    decoding: Decoding = Decoding()
    seed: tuple[int, ...] = (0,)

    async def __call__(self, history: Sequence[Turn], observation: Messages) -> Action:
        messages = [
            {"role": "assistant", "content": part.action.text} if isinstance(part, Turn) else said(part)
            for part in self.memory(history, observation)
        ]
        reply = await self.hosted._ask(messages, self.decoding, (*self.seed, len(history)))
        return Action(reply.text)


async def choice(endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The one choice of the answer, and all of the answer.

    Raises ContextFull when the server says that the context is too long, AgentError for an answer of another model
    than ``body`` names, for one of another form and for whatever ``Endpoint.post`` fails with.
    """
    where = f"{endpoint.url}{path}"
    try:
        answer = await endpoint.post(path, body)
    except Refused as error:
        if error.status in (400, 413, 422) and _FULL.search(str(error)):
            raise ContextFull(str(error)) from error
        raise
    by = answer.get("model", body["model"])
    if not re.fullmatch(re.escape(body["model"]) + _DATED, str(by)):
        stranger = endpoint.hidden(repr(by))[:100]
        raise AgentError(f"{where}: {stranger} answered, not {body['model']!r}: another model is served there now")
    choices = answer.get("choices")
    if not (isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict)):
        raise AgentError(f"{where}: the answer has no single choice: {endpoint.hidden(json.dumps(answer))[:200]}")
    return choices[0], answer


async def served(endpoint: Endpoint, model: str = "") -> str:
    """The name of the model to ask for: ``model`` if the endpoint serves it, else the only one that it lists.

    Raises UsageError when there is none of that name, or none or several to choose from; AgentError when the endpoint
    does not answer. An endpoint that has no list is believed.
    """
    try:
        listed = (await endpoint.get("/models")).get("data")
    except Refused as error:
        if model and error.status in (404, 405, 501):
            return model
        raise
    names = [str(m["id"]) for m in listed if isinstance(m, dict) and "id" in m] if isinstance(listed, list) else []
    if model and (model in names or not names):
        return model
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    if model:
        raise UsageError(f"{endpoint.url} serves no {model}; it serves {shown}")
    if len(names) != 1:
        raise UsageError(f"{endpoint.url} lists {shown or 'no model'}: name the one to ask with --served")
    return names[0]


def said(message: Message) -> dict[str, Any]:
    """A message as servers of the OpenAI kind read it; images are data URLs."""
    content: str | list[dict[str, Any]]
    if isinstance(message.content, str):
        content = message.content
    else:
        content = [
            {"type": "text", "text": part.text}
            if isinstance(part, Text)
            else {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_base64(part.png)}"}}
            for part in message.content
        ]
    found: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        found["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        found["tool_call_id"] = message.tool_call_id
    return found


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _text(content: Any) -> str:
    """The words of an answer, which some servers give in parts; parts of another type are reasoning."""
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict) and p.get("type") in ("text", "output_text")]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
