"""Where the sites of all episodes of a process live, and the lanes by which browsers reach them and nothing else."""

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import TypeVar

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ..errors import Deadline, EnvError, UsageError
from ..serving import listen, spoken
from .engine import Make, Receive, Scope, Send, Site
from .lane import Fate, Traffic

T = TypeVar("T")
VARIABLE = "TURNGYM_SITES_HOST"  # the address to listen on for remote browsers
_LOCAL = "127.0.0.1"
_KEEP_ALIVE = 75  # seconds that an idle connection stays open: an agent may think for long between two steps


class Sites:
    """The one thread in which sites are made, served, asked and closed, so a SQLite connection never changes thread.

    It starts with the first lane; methods may be called from any other thread.
    """

    def __init__(self, *, seconds: float = 30.0) -> None:
        self.seconds = seconds  # how long a site may take to be made, asked or closed
        self._blank()

    def _blank(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes = set[Lane]()
        self._process = os.getpid()

    def lane(self, *, remote: bool = False) -> "Lane":
        """A new lane; one for a ``remote`` browser listens where ``TURNGYM_SITES_HOST`` says.

        Raises UsageError when it cannot listen there.
        """
        if self._process != os.getpid():  # a forked child has none of the threads: those lanes are its parent's
            self._blank()
        loop = self._start()
        host = os.environ.get(VARIABLE) or _LOCAL if remote else _LOCAL
        lane = Lane(self, loop, _listen(host), remote=remote)
        asyncio.run_coroutine_threadsafe(lane._begin(), loop).result(self.seconds)
        self._lanes.add(lane)
        return lane

    def stop(self) -> None:
        """Close all lanes and end the thread; may be called twice, and the next ``lane`` starts anew."""
        if self._process != os.getpid():
            return
        with self._lock:
            thread, loop = self._thread, self._loop
            if not thread or not loop:
                return
            for lane in list(self._lanes):
                lane.close()
            loop.call_soon_threadsafe(loop.stop)
            thread.join(self.seconds)
            self._thread = self._loop = None
        if thread.is_alive():
            raise Deadline(f"the site server did not stop in {self.seconds:g} s")

    def run(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop) -> T:
        """``work()`` in the thread of ``loop``; raises EnvError when that is no longer the server's, or Deadline."""
        thread = self._thread
        if self._process != os.getpid() or loop is not self._loop or thread is None or not thread.is_alive():
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

    def forget(self, lane: "Lane") -> None:
        self._lanes.discard(lane)

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_work, args=(self._loop,), name="turngym-sites", daemon=True)
                self._thread.start()
            return self._loop


class Lane:
    """One browser context's only way out: a proxy with a port of its own.

    It serves the sites of the present episode, site ``s`` as ``http://s.TOKEN.localhost``, and refuses and counts
    every other request, also those to the sites of other episodes. So what a page may reach does not depend on the
    browser's own rules, and no port is open but this one. ``url`` is where a browser finds it; a remote browser must
    resolve ``*.localhost`` to this machine.
    """

    def __init__(self, sites: Sites, loop: asyncio.AbstractEventLoop, listener: socket.socket, *, remote: bool) -> None:
        self._sites, self._loop, self._listener = sites, loop, listener
        self.port: int = listener.getsockname()[1]
        self.url = f"http://{'sites.localhost' if remote else _LOCAL}:{self.port}"
        self._traffic = Traffic({}, "")
        self._previous = ""  # the token of the episode before
        self._connections = set[H11Protocol]()
        self._server: asyncio.Server | None = None

    @property
    def refused(self) -> int:
        """Requests of the present episode that were refused."""
        return self._traffic.refused

    @property
    def fate(self) -> Fate:
        """What became of the last page that the browser asked for."""
        return self._traffic.fate

    def open(self, makes: Mapping[str, Make]) -> dict[str, str]:
        """End the episode before, and host the sites of a new one: their names by their origins.

        Raises what a ``make`` raises, EnvError, or Deadline.
        """

        def begin() -> dict[str, str]:
            self._end()
            token, sites = secrets.token_hex(8), dict[str, Site]()
            try:
                for name, make in makes.items():
                    sites[name] = make()
            except BaseException:
                _close(sites)
                raise
            self._traffic = Traffic(sites, token, self._previous)
            self._previous = token
            return {f"http://{host}": name for host, name in self._traffic.hosts.items()}

        return self._sites.run(begin, self._loop)

    def query(self, ask: Callable[[Mapping[str, Site]], T]) -> T:
        """``ask(sites)`` in the server's thread; raises what it raises, EnvError when nothing is open, or Deadline."""

        def apply() -> T:
            if not self._traffic.sites:
                raise EnvError("no sites are open")
            return ask(self._traffic.sites)

        return self._sites.run(apply, self._loop)

    def check(self) -> None:
        """Raises EnvError when a site failed at a request: the page that shows it is nobody's doing."""
        error = self._traffic.failed
        if error:
            raise EnvError(f"the site failed: {type(error).__name__}: {error}") from error

    def end(self) -> None:
        """Close the sites; nothing happens when none is open, or in a forked child, whose they are not."""
        self._if_running(self._end)

    def close(self) -> None:
        """End the episode and stop listening; may be called twice."""

        def shut() -> None:
            self._end()
            if self._server:
                self._server.close()

        self._if_running(shut)
        self._listener.close()
        self._sites.forget(self)

    async def _begin(self) -> None:
        config = spoken(self._serve, timeout_keep_alive=_KEEP_ALIVE)
        config.load()

        def connect() -> asyncio.Protocol:
            state = ServerState()  # one each, so that a connection knows its own tasks
            state.connections = self._connections  # type: ignore[assignment]
            return _Connection(config=config, server_state=state, app_state={})

        self._server = await self._loop.create_server(connect, sock=self._listener)

    def _if_running(self, work: Callable[[], None]) -> None:
        try:
            self._sites.run(work, self._loop)
        except EnvError:
            pass  # the thread ended and everything with it, or it is another process's

    def _end(self) -> None:
        for connection in list(self._connections):
            connection.transport.abort()
        traffic, self._traffic = self._traffic, Traffic({}, "")
        _close(traffic.sites)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._traffic.serve(scope, receive, send)
        except asyncio.CancelledError:
            pass  # nobody waits for the answer any more


class _Connection(H11Protocol):
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for task in list(self.tasks):  # a site that streams for ever would go on for ever
            task.cancel()


def _work(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _listen(host: str) -> socket.socket:
    try:
        return listen(host)
    except UsageError as error:
        raise UsageError(f"{error}, by {VARIABLE}") from error


def _close(sites: Mapping[str, Site]) -> None:
    for site in sites.values():
        site.close()
