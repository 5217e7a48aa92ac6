"""One HTTP server for all episodes of a process: each has its own origin, told apart by the Host header."""

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import Any, TypeVar

import uvicorn

from ..errors import Deadline, EnvError
from .engine import Receive, Scope, Send, Site

T = TypeVar("T")


class Sites:
    """A server on 127.0.0.1 with a port of the system's choice, on its own thread's event loop.

    The site with token ``t`` is at ``http://t.localhost:port``, which a browser resolves to this machine by
    itself. A site is made, served, asked and closed in that one thread, so a SQLite connection never changes
    thread. The thread starts with the first site; methods may be called from any other thread.
    """

    def __init__(self, *, seconds: float = 30.0) -> None:
        self.seconds = seconds  # how long a site may take to be made, asked or closed
        self._blank()

    def _blank(self) -> None:
        self._sites: dict[str, Site] = {}
        self._failed: dict[str, Exception] = {}  # what a site failed with, by token
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._port = 0
        self._process = os.getpid()

    def open(self, make: Callable[[], Site]) -> tuple[str, str]:
        """Host ``make()``: its token and its origin. Raises what ``make`` raises, EnvError, or Deadline."""
        if self._process != os.getpid():  # a forked child has none of the threads: those sites are its parent's
            self._blank()
        self._start()
        token = secrets.token_hex(8)

        def add() -> None:
            self._sites[token] = make()

        self._run(add)
        return token, f"http://{token}.localhost:{self._port}"

    def call(self, token: str, ask: Callable[[Any], T]) -> T:
        """``ask(site)`` in the server's thread; raises what it raises, EnvError for no such site, or Deadline."""

        def apply() -> T:
            if token not in self._sites:
                raise EnvError(f"no site {token} is open")
            return ask(self._sites[token])

        return self._run(apply)

    def check(self, token: str) -> None:
        """Raises EnvError when the site failed at a request: the page that shows it is nobody's doing."""
        error = self._failed.get(token)
        if error:
            raise EnvError(f"the site failed: {type(error).__name__}: {error}") from error

    def close(self, token: str) -> None:
        """Close one site; nothing happens when it is not open."""

        def remove() -> None:
            self._failed.pop(token, None)
            site = self._sites.pop(token, None)
            if site:
                site.close()

        if self._thread and self._process == os.getpid():
            self._run(remove)

    def stop(self) -> None:
        """Close all sites and end the server; may be called twice, and the next ``open`` starts anew."""
        with self._lock:
            thread, server = self._thread, self._server
            if not thread or not server or self._process != os.getpid():
                return
            for token in list(self._sites):
                self.close(token)
            server.should_exit = True
            thread.join(self.seconds)
            self._thread = self._loop = self._server = None
        if thread.is_alive():
            raise Deadline(f"the site server did not stop in {self.seconds:g} s")

    def _start(self) -> None:
        with self._lock:
            if self._thread and self._thread.is_alive():
                return
            # The protocol is named because asyncio turns Nagle's algorithm off only for sockets that name it:
            # otherwise every response of two writes waits 40 ms for a delayed acknowledgement.
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.bind(("127.0.0.1", 0))
            self._port = listener.getsockname()[1]
            config = uvicorn.Config(
                self._serve,
                interface="asgi3",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
            self._server = uvicorn.Server(config)
            ready: Future[asyncio.AbstractEventLoop] = Future()
            self._thread = threading.Thread(
                target=self._work, args=(self._server, listener, ready), name="turngym-sites", daemon=True
            )
            self._thread.start()
            self._loop = ready.result(self.seconds)

    @staticmethod
    def _work(server: uvicorn.Server, listener: socket.socket, ready: "Future[asyncio.AbstractEventLoop]") -> None:
        async def main() -> None:
            ready.set_result(asyncio.get_running_loop())
            await server.serve(sockets=[listener])

        with listener:
            asyncio.run(main())

    def _run(self, work: Callable[[], T]) -> T:
        """``work()`` in the server's thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            raise EnvError("the site server is not running")
        if thread is threading.current_thread():
            return work()
        done: Future[T] = Future()

        def carry() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(work())
            except BaseException as error:  # handed to the caller's thread, which raises it
                done.set_exception(error)

        loop.call_soon_threadsafe(carry)
        try:
            return done.result(self.seconds)
        except Late:
            if done.done():  # the work itself raised a TimeoutError
                raise
            done.cancel()
            raise Deadline(f"a site did not answer in {self.seconds:g} s") from None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        name, _, port = host.partition(":")
        token, _, rest = name.partition(".")
        site = self._sites.get(token) if rest == "localhost" and port == str(self._port) else None
        if site:
            try:
                await site(scope, receive, send)
            except Exception as error:  # whatever it is, it reaches the engine by ``check``
                self._failed.setdefault(token, error)
            return
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"no such site"})
