"""One Chromium for all episodes of a process, on one thread that owns it."""

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as Late
from typing import Any, TypeVar

from playwright.async_api import Browser as Chromium
from playwright.async_api import Error, Playwright, async_playwright

from ..errors import Deadline, EnvError, UsageError
from .chromium import find, flags

T = TypeVar("T")
_LAUNCH = 60.0  # seconds that starting or ending a browser may take


class Browser:
    """A running Chromium and the thread whose event loop is the only one to talk to it.

    ``lease`` gives the process's one of its kind, started when it is first wanted and again after a crash;
    ``release`` ends it when nobody holds it any more.
    """

    _shared: "dict[bool, Browser]" = {}  # by headless
    _lock = threading.Lock()

    def __init__(self, *, headless: bool) -> None:
        """Start it; raises UsageError when there is no browser or no display, EnvError when it does not start."""
        if not headless and sys.platform == "linux" and not _display():
            raise UsageError("a visible browser wants a display: set DISPLAY, run under xvfb-run, or stay headless")
        self.headless, self.executable = headless, find(headless=headless)
        self._holders, self._closed = 0, False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="turngym-browser", daemon=True)
        self._thread.start()
        self._playwright: Playwright | None = None
        try:
            self.chromium: Chromium = self.run(self._launch(), _LAUNCH)
        except BaseException:
            self.close()
            raise

    @classmethod
    def lease(cls, *, headless: bool) -> "Browser":
        """The shared browser, started if need be; raises what starting raises."""
        with cls._lock:
            browser = cls._shared.get(headless)
            if browser is None or not browser.alive:
                browser = cls._shared[headless] = cls(headless=headless)
            browser._holders += 1
            return browser

    def release(self) -> None:
        """Give one lease back."""
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
            if self._shared.get(self.headless) is self:
                del self._shared[self.headless]
        self.close()

    @property
    def alive(self) -> bool:
        """Whether it can be talked to: it runs, and its thread was not left behind by a fork."""
        return not self._closed and self._thread.is_alive() and self.chromium.is_connected()

    def run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """``work`` on the owner's thread; raises Deadline after ``seconds``, EnvError when the browser fails."""
        if self._closed or not self._thread.is_alive():
            work.close()
            raise EnvError("the browser is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except Late:
            future.cancel()
            raise Deadline(f"the browser did not answer in {seconds:g} s") from None
        except Error as error:
            raise EnvError(f"the browser failed: {error.message.splitlines()[0]}") from error

    def close(self) -> None:
        """End the browser and the thread; may be called twice."""
        if self._closed:
            return
        try:
            self.run(self._end(), _LAUNCH)
        except (Deadline, EnvError):
            pass  # it crashed or hangs: its driver ends it together with this process
        finally:
            self._closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_LAUNCH)

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))  # lets cancelled tasks end before their loop does
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _launch(self) -> Chromium:
        self._playwright = await async_playwright().start()
        return await self._playwright.chromium.launch(
            executable_path=self.executable,
            headless=self.headless,
            args=flags(),
            handle_sigint=False,  # Ctrl-C is the trainer's to handle: it may still want its pages
            handle_sigterm=False,
            handle_sighup=False,
        )

    async def _end(self) -> None:
        if self._playwright:
            await self._playwright.stop()  # ends the browser too


def _display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@atexit.register
def _close_all() -> None:
    for browser in list(Browser._shared.values()):
        browser.close()


def _forget() -> None:
    """A forked child has neither the thread nor the lock's holder: it starts a browser of its own."""
    Browser._shared, Browser._lock = {}, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
