"""A model of this machine behind the OpenAI wire format: chat, and completions that take and give token ids."""

import asyncio
import secrets
from collections.abc import Callable, Sequence, Set

from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..envs import AgentError, Failure, UsageError
from ..envs.serving import listen, run, spoken
from .chat import Prompter
from .core import ContextFull, Request, Sample
from .proxy import connection, wire
from .proxy.wire import IGNORED, Rejected
from .samplers.torch import TorchSampler

SHAPED = IGNORED | {"max_tokens", "temperature", "seed"}
CHAT = SHAPED | {"messages", "max_completion_tokens"}
COMPLETIONS = SHAPED | {"prompt", "stop_token_ids", "ignore_eos", "logprobs", "return_token_ids"}


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
            exception_handlers={UsageError: _refused, ContextFull: self._full, Failure: _failed},
        )

    async def _models(self, asked: Asked) -> Response:
        one = {"id": self.name, "object": "model", "owned_by": "turngym", "max_model_len": self.sampler.decoder.limit}
        return JSONResponse({"object": "list", "data": [one]})

    async def _chat(self, asked: Asked) -> Response:
        body = await self._body(asked, CHAT)
        messages = wire.messages(body)
        if any(message.tool_calls for message in messages):
            raise Rejected("this server reads words only, no tool calls", param="messages")
        try:
            ids = self.prompter.prompt(messages)
        except AgentError as error:
            raise Rejected(str(error)) from error
        most = wire.whole(body, "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens")
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
        sample = await self._sample(asked, ids, wire.whole(body, "max_tokens"), stop, body)
        decode = self.prompter.tokenizer.decode
        shown = sample.tokens[:-1] if sample.finish == "stop" else sample.tokens
        found: wire.Json = {"text": decode(list(shown), skip_special_tokens=False), "logprobs": None}
        if logprobs is not None and logprobs is not False:
            words = [decode([token], skip_special_tokens=False) for token in sample.tokens]
            found["logprobs"] = {"tokens": words, "token_logprobs": list(sample.logps)}
        if body.get("return_token_ids"):
            found |= {"token_ids": list(sample.tokens), "prompt_token_ids": list(ids)}
        return self._answer("text_completion", ids, sample, found)

    async def _body(self, asked: Asked, known: Set[str]) -> wire.Json:
        """What was said in it that is not null. Raises Rejected for what this server does not do."""
        body = wire.options(await connection.body(asked), known)
        if (name := body.get("model", self.name)) != self.name:
            why = f"no model {name!r} is served here, only {self.name!r}"
            raise Rejected(why, status=404, param="model", code="model_not_found")
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
        self, asked: Asked, ids: tuple[int, ...], most: int | None, stop: tuple[int, ...], body: wire.Json
    ) -> Sample:
        """Stops when the client has gone."""
        heat, seed = wire.number(body, "temperature"), wire.whole(body, "seed")
        request = Request(
            ids,
            self.max_tokens if most is None else most,
            stop,
            1.0 if heat is None else heat,
            seed=(secrets.randbits(63) if seed is None else seed % 2**64,),
        )
        sampling = asyncio.ensure_future(self.sampler(request))
        try:
            async with connection.listening(asked.receive) as gone:
                await asyncio.wait({sampling, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not sampling.done():
                raise Rejected("the client has gone")  # and does not read it
            return sampling.result()
        finally:
            sampling.cancel()

    def _answer(self, kind: str, ids: Sequence[int], sample: Sample, found: wire.Json) -> Response:
        usage = wire.usage(len(ids), len(sample.tokens))
        one = {"index": 0, "finish_reason": sample.finish, **found}
        return JSONResponse(
            {"id": secrets.token_hex(8), "object": kind, "model": self.name, "choices": [one], "usage": usage}
        )

    async def _full(self, asked: Asked, error: Exception) -> Response:
        why = f"the maximum context length is {self.sampler.decoder.limit} tokens: {error}"
        return _error(Rejected(why, code="context_length_exceeded"))


def serve(service: Service, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGINT; ``say`` gets the address, port 0 is one of the system's choice.

    Raises UsageError when the address cannot be had.
    """
    with listen(host, port) as listener:
        say(f"{service.name} at http://{host}:{listener.getsockname()[1]}/v1; Ctrl-C ends it")
        try:
            run(spoken(service.app, timeout_graceful_shutdown=1), listener)
        finally:
            service.sampler.close()


async def _refused(asked: Asked, error: Exception) -> Response:
    return _error(error if isinstance(error, Rejected) else Rejected(str(error)))


async def _failed(asked: Asked, error: Exception) -> Response:
    return _error(Rejected(str(error), status=500))


def _error(error: Rejected) -> Response:
    return JSONResponse(error.json(), error.status)
