"""The engine with a real Chromium: each episode has its own context, its own origin and no other network."""

import atexit
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from playwright.async_api import BrowserContext

from ..errors import Deadline, EnvError
from .browser import Browser
from .effects import check
from .engine import Site
from .grammar import Do, Go
from .page import Page
from .server import Sites
from .tab import Tab

T = TypeVar("T")
SIZE = (640, 480)  # of the window, in pixels: enough to read, small enough to embed


class BrowserEngine:
    """An Engine on Chromium.

    All engines of a process share one browser and one server. ``seconds`` is what an action, an opening or a
    question may take; whatever takes longer raises Deadline, after which only ``open`` and ``close`` are of use.
    Forms of a site should have ``autocomplete="off"``, because Chromium otherwise fills them again on the way back.
    """

    def __init__(self, *, headless: bool = True, seconds: float = 30.0) -> None:
        self.headless, self.seconds = headless, seconds
        self._browser: Browser | None = None
        self._context: BrowserContext | None = None
        self._tab: Tab | None = None
        self._token = ""
        self.origin = ""  # of the episode's site

    def open(self, make: Callable[[], Site], path: str) -> Page:
        """As Engine.open; raises UsageError when there is no browser to run."""
        self._leave()
        if self._browser is None or not self._browser.alive:  # at first, or after a crash
            self._return()
            self._browser = Browser.lease(headless=self.headless)
        self._token, self.origin = _sites.open(make)
        try:
            self._tab = self._run(self._enter(self.origin))
            self._run(self._tab.guard(self._tab.visit(path)))
            _sites.check(self._token)
        except BaseException:
            self._leave()
            raise
        return self._tab.page

    def act(self, command: Do | Go) -> Page:
        tab = self._now()
        check(command, tab.page)
        try:
            self._run(tab.guard(tab.go(command) if isinstance(command, Go) else tab.act(command)))
            _sites.check(self._token)
        except (Deadline, EnvError):
            self._tab = None  # nobody knows what the page is now
            raise
        return tab.page

    def query(self, ask: Callable[[Any], T]) -> T:
        return _sites.call(self._token, ask)

    def screenshot(self) -> bytes:
        tab = self._now()
        return self._run(tab.guard(tab.png()))

    def close(self) -> None:
        try:
            self._leave()
        finally:
            self._return()

    async def _enter(self, origin: str) -> Tab:
        assert self._browser is not None
        host = origin.removeprefix("http://")
        # Everything but the episode's own origin goes to a proxy that answers nobody: an allow-list of the
        # network itself, which costs nothing, whereas routing asks this process about each request.
        self._context = await self._browser.chromium.new_context(
            viewport={"width": SIZE[0], "height": SIZE[1]},
            accept_downloads=False,
            service_workers="block",
            proxy={"server": f"http://127.0.0.1:{_nowhere()}", "bypass": host},
        )
        return await Tab.create(self._context, origin)

    def _now(self) -> Tab:
        if self._tab is None:
            raise EnvError("no page is open: the engine was not opened, or failed since")
        if self._browser is None or not self._browser.alive:
            raise EnvError("the browser ended")
        return self._tab

    def _leave(self) -> None:
        """Close the episode's context and site."""
        context, token = self._context, self._token
        self._context, self._tab, self._token = None, None, ""
        try:
            if context and self._browser and self._browser.alive:
                self._run(context.close())
        except EnvError:
            pass  # the browser ended meanwhile, and the context with it
        finally:
            if token:
                _sites.close(token)

    def _return(self) -> None:
        browser, self._browser = self._browser, None
        if browser:
            browser.release()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._browser is not None
        return self._browser.run(work, self.seconds)


_sites = Sites()
_held: list[socket.socket] = []


def _nowhere() -> int:
    """A port of this machine that is held and refuses every connection."""
    if not _held:
        _held.append(socket.socket())
        _held[0].bind(("127.0.0.1", 0))  # bound and never listening
    return int(_held[0].getsockname()[1])


@atexit.register
def _end() -> None:
    _sites.stop()
    while _held:
        _held.pop().close()
