"""ASGI applications at a port of this machine, served by uvicorn in a thread, and one that misbehaves by a script."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from processes import wait

from turngym.envs.serving import listen, spoken

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Running:
    """Where it listens, and the loop that it runs in."""

    url: str
    loop: asyncio.AbstractEventLoop


@contextmanager
def served(app: App) -> Iterator[Running]:
    """The application at ``url``, which ends in /v1; within, requests that come are answered."""
    server, loops = uvicorn.Server(spoken(app, timeout_graceful_shutdown=5)), list[asyncio.AbstractEventLoop]()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve(sockets=[listener])

    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        try:
            wait(lambda: server.started)
            yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", loops[0])
        finally:
            server.should_exit = True
            thread.join()


@dataclass(frozen=True)
class Answer:
    """What to answer: JSON, or these bytes; ``how`` may be hang or cut instead of whole."""

    status: int = 200
    said: Any = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    how: str = "whole"


@dataclass
class Saw:
    """A request, and when it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float


class Scripted:
    """Answers by ``script``, the last of it again and again; ``saw`` is what was asked."""

    def __init__(self, *script: Answer) -> None:
        self.script, self.saw = list(script) or [Answer()], list[Saw]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        asked = json.loads(body) if body else None
        self.saw.append(Saw(scope["method"], scope["path"], headers, asked, time.monotonic()))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        await reply(answer, receive, send)


async def reply(answer: Answer, receive: Receive, send: Send) -> None:
    while answer.how == "hang":
        if (await receive())["type"] == "http.disconnect":
            return
    said = answer.said if isinstance(answer.said, bytes) else json.dumps(answer.said).encode()
    length = len(said) + (100 if answer.how == "cut" else 0)
    headers = [(k.encode(), v.encode()) for k, v in (*answer.headers, ("content-length", str(length)))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": said, "more_body": answer.how == "cut"})
