"""A model of this machine behind the OpenAI wire format: chat, and completions that take and give token ids."""

import asyncio
import json
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, get_args

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..envs import AgentError, Failure, Message, UsageError
from ..envs.core import Role
from ..envs.web.serve import listen
from .chat import Prompter
from .core import ContextFull, Request, Sample
from .proxy.wire import failure
from .samplers.torch import TorchSampler

SHAPED = {"model", "max_tokens", "temperature", "seed", "user"}
CHAT = SHAPED | {"messages", "max_completion_tokens"}
COMPLETIONS = SHAPED | {"prompt", "stop_token_ids", "ignore_eos", "logprobs", "return_token_ids"}
IDLE: dict[str, tuple[Any, ...]] = {  # options that may be said at these values alone, where they change nothing
    "n": (1,), "best_of": (1,), "stream": (False,), "echo": (False,), "stop": ([], ""), "top_p": (1,),
    "top_k": (0, -1), "min_p": (0,), "frequency_penalty": (0,), "presence_penalty": (0,), "repetition_penalty": (1,),
    "logprobs": (False,), "tools": ([],), "logit_bias": ({},), "response_format": ({"type": "text"},),
}  # fmt: skip


class _Missing(UsageError):
    """No model of that name is here."""


class Service:
    """The ASGI application ``app``: ``/v1/models``, ``/v1/chat/completions`` and ``/v1/completions``.

    A request that nobody waits for any more leaves the sampler at once. What the server cannot do is refused in the
    form of OpenAI's errors, never ignored: streams, tools, several choices, stop strings, top_k and top_p.

    Args:
        name: of the model on the wire.
        max_tokens: of an answer whose request does not say.
    """

    def __init__(self, sampler: TorchSampler, prompter: Prompter, name: str, *, max_tokens: int = 256) -> None:
        self.sampler, self.prompter, self.name, self.max_tokens = sampler, prompter, name, max_tokens
        self.vocabulary = int(sampler.model.get_input_embeddings().num_embeddings)
        self.app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._completions, methods=["POST"]),
            ],
            exception_handlers={
                _Missing: _refusal(404, "model_not_found"),
                UsageError: _refusal(400, "invalid_request"),
                ContextFull: self._full,
                Failure: _refusal(500, "failed"),
            },
        )

    async def _models(self, asked: Asked) -> Response:
        one = {"id": self.name, "object": "model", "owned_by": "turngym", "max_model_len": self.sampler.decoder.limit}
        return JSONResponse({"object": "list", "data": [one]})

    async def _chat(self, asked: Asked) -> Response:
        body = await self._body(asked, CHAT)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise UsageError("messages must be a list of at least one message")
        most = body.get("max_completion_tokens", body.get("max_tokens", self.max_tokens))
        try:
            ids = self.prompter.prompt([_message(m) for m in messages])
        except AgentError as error:
            raise UsageError(str(error)) from error
        sample = await self._sample(asked, ids, most, self.prompter.stop, body)
        message = {"role": "assistant", "content": self.prompter.text(sample.tokens)}
        return self._answer("chat.completion", ids, sample, {"message": message})

    async def _completions(self, asked: Asked) -> Response:
        body = await self._body(asked, COMPLETIONS)
        ids, ends = self._ids(body.get("prompt")), body.get("stop_token_ids", [])
        if not isinstance(ends, list) or not all(type(t) is int for t in ends):
            raise UsageError("stop_token_ids must be a list of ids")
        stop = (*ends, *(() if body.get("ignore_eos") else self.prompter.stop))
        if (logprobs := body.get("logprobs")) not in (None, 0, False):
            raise UsageError(f"logprobs must be 0, of the token taken alone, not {logprobs!r}")
        sample = await self._sample(asked, ids, body.get("max_tokens", self.max_tokens), stop, body)
        decode = self.prompter.tokenizer.decode
        shown = sample.tokens[:-1] if sample.finish == "stop" else sample.tokens
        found: dict[str, Any] = {"text": decode(list(shown), skip_special_tokens=False), "logprobs": None}
        if logprobs is not None and logprobs is not False:
            words = [decode([token], skip_special_tokens=False) for token in sample.tokens]
            found["logprobs"] = {"tokens": words, "token_logprobs": list(sample.logps)}
        if body.get("return_token_ids"):
            found |= {"token_ids": list(sample.tokens), "prompt_token_ids": list(ids)}
        return self._answer("text_completion", ids, sample, found)

    async def _body(self, asked: Asked, known: set[str]) -> dict[str, Any]:
        """What was said in it that is not null. Raises UsageError for what this server does not do."""
        try:
            said = await asked.json()
        except (ValueError, RecursionError) as error:
            raise UsageError("the body is no JSON") from error
        if not isinstance(said, dict):
            raise UsageError("the body is no JSON object")
        body = {name: value for name, value in said.items() if value is not None}
        for name, value in body.items():
            if name not in known and not any(value == idle for idle in IDLE.get(name, ())):
                raise UsageError(f"{name} = {json.dumps(value)[:100]} is nothing that this server does: leave it out")
        if (name := body.get("model", self.name)) != self.name:
            raise _Missing(f"no model {name!r} is served here, only {self.name!r}")
        return body

    def _ids(self, prompt: object) -> tuple[int, ...]:
        """Of a prompt in words, in ids or in a list of one of either."""
        if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return tuple(self.prompter.tokenizer.encode(prompt, add_special_tokens=False))
        if not isinstance(prompt, list) or not all(type(t) is int and 0 <= t < self.vocabulary for t in prompt):
            raise UsageError(f"the prompt must be one text, or ids from 0 to {self.vocabulary - 1}")
        return tuple(prompt)

    async def _sample(
        self, asked: Asked, ids: tuple[int, ...], most: object, stop: tuple[int, ...], body: Mapping[str, Any]
    ) -> Sample:
        heat, seed = body.get("temperature", 1.0), body.get("seed", secrets.randbits(63))
        if not isinstance(heat, int | float) or not 0 <= heat < float("inf"):
            raise UsageError(f"temperature must be a number of at least 0, not {heat!r}")
        if type(most) is not int or type(seed) is not int:
            raise UsageError("max_tokens and seed must be whole numbers")
        request = Request(ids, most, stop, float(heat), seed=(seed % 2**64,))
        return await _while_waited_for(asked, self.sampler(request))

    def _answer(self, kind: str, ids: Sequence[int], sample: Sample, found: dict[str, Any]) -> Response:
        read, written = len(ids), len(sample.tokens)
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        one = {"index": 0, "finish_reason": sample.finish, **found}
        return JSONResponse(
            {"id": secrets.token_hex(8), "object": kind, "model": self.name, "choices": [one], "usage": usage}
        )

    def _full(self, asked: Asked, error: Exception) -> Response:
        limit = self.sampler.decoder.limit
        return _error(400, "context_length_exceeded", f"the maximum context length is {limit} tokens: {error}")


class _Gone(Failure):
    """Nobody waits for the answer."""


async def _while_waited_for(asked: Asked, sampling: Coroutine[Any, Any, Sample]) -> Sample:
    """The sample; cancelled when the client has gone, which raises _Gone."""

    async def gone() -> None:
        while (await asked.receive())["type"] != "http.disconnect":
            pass

    work, left = asyncio.ensure_future(sampling), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise _Gone("the client has gone")
        return work.result()
    finally:
        work.cancel()
        left.cancel()
        await asyncio.gather(work, left, return_exceptions=True)


def serve(service: Service, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGINT; ``say`` gets the address, port 0 is one of the system's choice.

    Raises UsageError when the address cannot be had.
    """
    config = uvicorn.Config(
        service.app, interface="asgi3", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    with listen(host, port) as listener:
        say(f"{service.name} at http://{host}:{listener.getsockname()[1]}/v1; Ctrl-C ends it")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # how this ends
        finally:
            service.sampler.close()


def _message(said: Any) -> Message:
    """Raises UsageError for what is no message of words."""
    if not isinstance(said, dict) or said.get("role") not in get_args(Role):
        raise UsageError(f"{json.dumps(said)[:100]} is no message: it needs a role, {', '.join(get_args(Role))}")
    if said.get("tool_calls"):
        raise UsageError("this server reads words only, no tool calls")
    content = said.get("content") or ""
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise UsageError("this server reads words only, no images")
    return Message(said["role"], content)


def _refusal(status: int, code: str) -> Callable[[Asked, Exception], Response]:
    return lambda asked, error: _error(status, code, str(error))


def _error(status: int, code: str, message: str) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse(failure(message, kind, code=code), status)
