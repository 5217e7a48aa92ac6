"""What the chat completions interface of the OpenAI kind says, read and written: JSON to and from our types."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from ...envs import Message, Messages, Role, ToolCall, UsageError
from .toolcalls import ordered

Json = dict[str, Any]
NAME = "policy"  # of the one model that is served
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
# what changes neither tokens nor their probabilities here
IGNORED = frozenset({
    "user", "metadata", "store", "parallel_tool_calls", "service_tier", "safety_identifier", "prompt_cache_key",
    "stream_options", "model",
})  # fmt: skip
READ = frozenset({
    "messages", "tools", "tool_choice", "temperature", "max_tokens", "max_completion_tokens", "seed", "stream"
})  # fmt: skip
# what is refused, where it is not read, unless it says what happens anyway
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "stream": (False,), "echo": (False,), "stop": ([], ""), "top_p": (1,), "top_k": (0, -1),
    "min_p": (0,), "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,), "logit_bias": ({},),
    "logprobs": (False,), "response_format": ({"type": "text"},), "tools": ([],),
}  # fmt: skip


class Rejected(UsageError):
    """A request that is answered with an error in OpenAI's form."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def json(self) -> Json:
        kind = "authentication_error" if self.status == 401 else "invalid_request_error"
        kind = "server_error" if self.status >= 500 else kind
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for one reply; None where the client leaves the choice to the episode."""

    messages: Messages
    tools: tuple[Json, ...] = ()  # as sent; none with tool_choice "none"
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stream: bool = False
    usage: bool = False  # whether the stream ends with it
    model: str = NAME
    body: str = ""  # the whole request as canonical JSON, by which a repeated one is known


def read(body: Any) -> Ask:
    """The request in the JSON ``body``. Raises Rejected, naming the parameter, for what cannot be honoured."""
    said = options(body, READ | IGNORED)
    streamed = said.get("stream_options", {})
    return Ask(
        messages(said),
        _tools(said),
        number(said, "temperature"),
        whole(said, "max_completion_tokens" if "max_completion_tokens" in said else "max_tokens", 1),
        whole(said, "seed"),
        _flag(said, "stream"),
        _flag(streamed, "include_usage") if isinstance(streamed, dict) else False,
        str(said.get("model", NAME)),
        json.dumps(said, sort_keys=True),
    )


def options(body: Any, known: Set[str]) -> Json:
    """What the JSON ``body`` says that is not null; raises Rejected for what is neither ``known`` nor neutral."""
    if not isinstance(body, dict):
        raise Rejected("the body must be a JSON object")
    said = {name: value for name, value in body.items() if value is not None}
    for name, value in said.items():
        if name not in known and name not in NEUTRAL:
            raise Rejected(f"{name} is not known here, and might change what is sampled: leave it out", param=name)
        if name not in known and value not in NEUTRAL[name]:
            usual = " or ".join(json.dumps(v) for v in NEUTRAL[name])
            raise Rejected(f"{name} can only be {usual} here: leave it out", param=name)
    return said


def messages(said: Json) -> Messages:
    """Those under "messages"; raises Rejected for none, and like ``message``."""
    listed = said.get("messages")
    if not isinstance(listed, list) or not listed:
        raise Rejected("messages must be a list that is not empty", param="messages")
    return tuple(message(m, f"messages[{i}]") for i, m in enumerate(listed))


def message(said: Any, where: str) -> Message:
    """One message; raises Rejected. What is beside its role, content and calls (a name, say) is left out."""
    role = ROLES.get(said.get("role", "")) if isinstance(said, dict) and isinstance(said.get("role"), str) else None
    if role is None:
        raise Rejected(f"a message has a role of {', '.join(ROLES)}", param=where)
    asked = said.get("tool_calls") or []
    if not isinstance(asked, list) or (asked and role != "assistant"):
        raise Rejected("tool_calls is a list, in messages of the assistant alone", param=f"{where}.tool_calls")
    calls = tuple(_called(c, f"{where}.tool_calls[{i}]") for i, c in enumerate(asked))
    answered = said.get("tool_call_id") if role == "tool" else None
    if role == "tool" and not isinstance(answered, str):
        raise Rejected("a message of role tool says which call it answers", param=f"{where}.tool_call_id")
    return Message(role, _content(said.get("content"), f"{where}.content"), calls, answered)


def answer(ask: Ask, reply: Message, finish: str, number: int, read: int, written: int) -> Json:
    """The whole completion; ``read`` and ``written`` tokens."""
    said: Json = {"role": "assistant", "content": reply.content or None if reply.tool_calls else reply.content}
    said["refusal"] = None
    if reply.tool_calls:
        said["tool_calls"] = [_call(c) for c in reply.tool_calls]
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish}
    return _head(ask, number, "chat.completion") | {"choices": [choice], "usage": usage(read, written)}


def chunks(ask: Ask, reply: Message, finish: str, number: int, read: int, written: int) -> Iterator[Json]:
    """The completion as a stream's parts: the role, the words, each call, the end, the usage if it was asked for."""
    head = _head(ask, number, "chat.completion.chunk")

    def part(delta: Json, end: str | None = None) -> Json:
        return head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}]}

    yield part({"role": "assistant", "content": "" if reply.content or not reply.tool_calls else None})
    for start in range(0, len(reply.text), 16):
        yield part({"content": reply.text[start : start + 16]})
    for i, call in enumerate(reply.tool_calls):
        yield part({"tool_calls": [{"index": i} | _call(call)]})
    yield part({}, finish)
    if ask.usage:
        yield head | {"choices": [], "usage": usage(read, written)}


def models() -> Json:
    return {"object": "list", "data": [{"id": NAME, "object": "model", "created": 0, "owned_by": "turngym"}]}


def reward(said: Mapping[str, Any], *, needed: bool) -> float:
    """The number under "reward"; raises Rejected for none where it is ``needed``, and for what is no finite number."""
    if said.get("reward") is None and not needed:
        return 0.0
    paid = number(said, "reward")
    if paid is None:
        raise Rejected("reward must be given", param="reward")
    return paid


def _head(ask: Ask, number: int, kind: str) -> Json:
    return {"id": f"chatcmpl-{number}", "object": kind, "created": int(time.time()), "model": ask.model}


def usage(read: int, written: int) -> Json:
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _call(call: ToolCall) -> Json:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)},
    }


def _called(said: Any, where: str) -> ToolCall:
    function = said.get("function") if isinstance(said, dict) else None
    if not isinstance(function, dict) or not all(isinstance(w, str) for w in (said.get("id"), function.get("name"))):
        raise Rejected("a call of a tool has an id and a function with a name", param=where)
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (TypeError, ValueError):
        arguments = None
    if not isinstance(arguments, dict):
        raise Rejected("arguments must be a JSON object, as a string", param=f"{where}.function.arguments")
    return ToolCall(said["id"], function["name"], ordered(arguments))


def _content(said: Any, where: str) -> str:
    """Words; parts are put together."""
    if said is None or isinstance(said, str):
        return said or ""
    parts: Sequence[Any] = said if isinstance(said, list) else [None]
    if not all(isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in parts):
        raise Rejected("content is words, or parts of type text: the policy reads nothing else", param=where)
    return "".join(p["text"] for p in parts)


def _tools(said: Json) -> tuple[Json, ...]:
    tools, choice = said.get("tools", []), said.get("tool_choice", "auto")
    fine = isinstance(tools, list) and all(
        isinstance(t, dict) and t.get("type") == "function" and isinstance(t.get("function"), dict) for t in tools
    )
    if not fine or not all(isinstance(t["function"].get("name"), str) for t in tools):
        raise Rejected("tools is a list of functions, each with a name", param="tools")
    if choice not in ("auto", "none"):
        raise Rejected("tool_choice can only be auto or none here: a call cannot be forced", param="tool_choice")
    return tuple(tools) if choice == "auto" else ()


def number(said: Mapping[str, Any], name: str) -> float | None:
    """The finite number of that ``name``, None where nothing is said; raises Rejected for what is none."""
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise Rejected(f"{name} must be a finite number, not {str(value)[:50]}", param=name)
    return float(value)


def whole(said: Mapping[str, Any], name: str, least: int | None = None) -> int | None:
    """The whole number of that ``name``, None where nothing is said; raises Rejected for what is none."""
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise Rejected(f"{name} must be a whole number{'' if least is None else f' of at least {least}'}", param=name)
    return value


def _flag(said: Mapping[str, Any], name: str) -> bool:
    value = said.get(name) or False
    if not isinstance(value, bool):
        raise Rejected(f"{name} is true or false", param=name)
    return value
