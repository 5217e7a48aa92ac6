"""The ASGI application: requests in OpenAI's form, by the key of an episode."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ...envs import UsageError
from ..core import ContextFull, Sample, Sampler
from . import wire
from .connection import body, listening
from .recording import Episode, Exchange, Plan
from .wire import Ask, Json, Rejected

Episodes = Mapping[str, Episode]  # by key


def application(episodes: Episodes, sampler: Sampler) -> Starlette:
    """The proxy's interface; ``episodes`` may grow and shrink while it serves."""
    here = _Reports(episodes)
    routes = [
        Route("/v1/chat/completions", _Chat(episodes, sampler), methods=["POST"]),
        Route("/v1/models", here.models, methods=["GET"]),
        Route("/v1/episode/reward", here.reward, methods=["POST"]),
        Route("/v1/episode/finish", here.finish, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={Rejected: _rejected, HTTPException: _refused})


def find(request: HttpRequest, episodes: Episodes) -> Episode:
    """The episode that the request's key names; raises Rejected for a key that names none, or one that is over."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    episode = episodes.get(key.strip()) if scheme.lower() == "bearer" else None
    if episode is None or episode.ended.is_set():
        raise Rejected("the API key names no episode that is open here", status=401, code="invalid_api_key")
    return episode


class _Reports:
    """What a program says of its episode."""

    def __init__(self, episodes: Episodes) -> None:
        self.episodes = episodes

    async def models(self, request: HttpRequest) -> Response:
        find(request, self.episodes)
        return JSONResponse(wire.models())

    async def reward(self, request: HttpRequest) -> Response:
        """{"reward": r, "final": false}: to the latest reply; with "final" the episode is finished as well."""
        episode, said = await self._said(request)
        if strange := sorted({*said} - {"reward", "final"}):
            raise Rejected(f"a reward has reward and final, not {', '.join(strange)}", param=strange[0])
        if not isinstance(said.get("final", False), bool):
            raise Rejected("final is true or false", param="final")
        paid = wire.reward(said, needed=True)
        if said.get("final"):
            episode.finish({"reward": paid})
        else:
            episode.pay(paid)
        return JSONResponse({"turns": len(episode.exchanges)})

    async def finish(self, request: HttpRequest) -> Response:
        """{"reward": r, "success": true, "outcome": "terminated"}, of which each may be left out."""
        episode, said = await self._said(request)
        episode.finish(said)
        return JSONResponse({"turns": len(episode.exchanges), "outcome": episode.outcome})

    async def _said(self, request: HttpRequest) -> tuple[Episode, Json]:
        episode, said = find(request, self.episodes), await body(request)
        if not isinstance(said, dict):
            raise Rejected("the body must be a JSON object")
        return episode, said


@dataclass(eq=False, slots=True)
class _Job:
    """One reply under way, for one connection or, by an idempotency key, for several."""

    body: str
    plan: Plan
    task: asyncio.Task[Sample]
    waiting: int = 0
    exchange: Exchange | None = None


class _Chat:
    """``POST /v1/chat/completions``.

    An exchange is recorded when the reply has been handed to a connection that still stood; where nobody is left to
    hear it, sampling stops and nothing is recorded. A request with the ``Idempotency-Key`` of an earlier one gets
    its reply; so does one that the client says to be a retry, where it is clear of which.
    """

    def __init__(self, episodes: Episodes, sampler: Sampler) -> None:
        self.episodes, self.sampler = episodes, sampler
        self._keyed: WeakKeyDictionary[Episode, dict[str, _Job]] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HttpRequest(scope, receive)
        try:
            episode = find(request, self.episodes)
            ask = wire.read(await body(request))
            async with listening(receive) as gone:
                exchange = await self._reply(request, episode, ask, gone)
                if exchange is not None:
                    try:
                        await _deliver(send, gone, ask, exchange, lambda: episode.keep(exchange))
                    finally:
                        if not request.headers.get("idempotency-key"):  # with a key it may be asked for again
                            episode.drop(exchange.number)
        except RecursionError:  # the body could be read, and not be gone through again
            deep = Rejected("the body is nested too deeply")
            await JSONResponse(deep.json(), deep.status)(scope, receive, send)
        except Rejected as error:
            await JSONResponse(error.json(), error.status)(scope, receive, send)

    async def _reply(
        self, request: HttpRequest, episode: Episode, ask: Ask, gone: asyncio.Task[None]
    ) -> Exchange | None:
        """None where the client has left."""
        name, keyed = request.headers.get("idempotency-key", ""), self._keyed.setdefault(episode, {})
        job = keyed.get(name) if name else None
        if job is not None and job.body != ask.body:
            raise Rejected("this Idempotency-Key came with another request before", code="idempotency_key")
        if job is None and not name and request.headers.get("x-stainless-retry-count", "0") != "0":
            if earlier := episode.again(ask):
                return earlier
        if job is None:
            job = self._start(episode, ask)
            if name:
                keyed[name] = job
        job.waiting += 1
        try:
            await asyncio.wait({job.task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not job.task.done():
                return None
            job.exchange = job.exchange or episode.answered(job.plan, self._sampled(episode, job.task))
            return job.exchange
        finally:
            job.waiting -= 1
            if not job.waiting and job.exchange is None:  # nobody wants it, or it failed: a retry asks anew
                job.task.cancel()
                keyed.pop(name, None)
                episode.drop(job.plan.number)

    def _start(self, episode: Episode, ask: Ask) -> _Job:
        plan = episode.plan(ask)
        task = asyncio.ensure_future(_ask(self.sampler, plan))
        episode.running.add(task)
        task.add_done_callback(partial(_ended, episode))
        episode.doing("the policy's reply")
        return _Job(ask.body, plan, task)

    @staticmethod
    def _sampled(episode: Episode, task: asyncio.Task[Sample]) -> Sample:
        """Raises Rejected for what the sampler raised."""
        if task.cancelled():
            raise Rejected("the episode of this key is over", status=401, code="invalid_api_key")
        try:
            return task.result()
        except ContextFull as error:
            raise episode.limit(str(error), "context_length_exceeded") from error
        except UsageError as error:
            raise Rejected(str(error)) from error
        except Exception as error:  # a model may raise anything; the client may ask again
            episode.failure = f"{type(error).__name__}: {error}"
            logging.getLogger("turngym").warning("the policy failed: %s", episode.failure)
            raise Rejected(f"the policy failed: {episode.failure}", status=500) from error


def _ended(episode: Episode, task: asyncio.Task[Sample]) -> None:
    episode.running.discard(task)
    if not episode.running:
        episode.doing("the program")


async def _ask(sampler: Sampler, plan: Plan) -> Sample:
    return await sampler(plan.request)


async def _deliver(
    send: Send, gone: asyncio.Task[None], ask: Ask, exchange: Exchange, keep: Callable[[], None]
) -> None:
    """Send the reply, and ``keep`` it if the connection stood until its last part was handed over.

    The last part goes out, and the exchange is kept, without a pause: no client can go on before it is kept.
    """
    parts = [part.encode() for part in (_events(ask, exchange) if ask.stream else _whole(ask, exchange))]
    kind = b"text/event-stream; charset=utf-8" if ask.stream else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(sum(map(len, parts))).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in parts[:-1]:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # where a connection that was lost meanwhile is seen
    if not gone.done():
        keep()
        await send({"type": "http.response.body", "body": parts[-1], "more_body": False})


def _whole(ask: Ask, exchange: Exchange) -> list[str]:
    return [json.dumps(wire.answer(*_said(ask, exchange)))]


def _events(ask: Ask, exchange: Exchange) -> Iterator[str]:
    """Server-sent events; what says that the reply is whole comes in one last part."""
    last = ""
    for chunk in wire.chunks(*_said(ask, exchange)):
        event = f"data: {json.dumps(chunk)}\n\n"
        if last or not chunk["choices"] or chunk["choices"][0]["finish_reason"]:
            last += event
        else:
            yield event
    yield f"{last}data: [DONE]\n\n"


def _said(ask: Ask, exchange: Exchange) -> tuple[Any, ...]:
    call = exchange.call
    sizes = len(call.request.ids), len(call.sample.tokens)
    return ask, exchange.reply, exchange.finish, exchange.number, *sizes


async def _rejected(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, Rejected)
    return JSONResponse(error.json(), error.status)


async def _refused(request: HttpRequest, error: Exception) -> Response:
    """No such path or method."""
    assert isinstance(error, HTTPException)
    said = Rejected(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code)
    return JSONResponse(said.json(), said.status)
