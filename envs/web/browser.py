"""One Chromium for all episodes of a process, on one thread that owns it."""

import asyncio
import atexit
import os
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from typing import Any, TypeVar

from playwright.async_api import Browser as Chromium
from playwright.async_api import Error, Playwright, async_playwright

from ..errors import EnvError, UsageError
from .chromium import fast, find, flags
from .profile import Profile
from .server import Sites
from .watch import watch

T = TypeVar("T")
HEADLESS, VISIBLE = "headless", "visible"  # where a browser is; every other place is the endpoint of a remote one
_LAUNCH = 60.0  # seconds that starting or ending a browser may take
_BURIAL = 20.0  # seconds that closing a context may take; a browser that needs longer hangs
_IDLE = 8  # profiles that are kept for the next engine


class Browser:
    """A running Chromium and the thread whose event loop is the only one to talk to it.

    ``lease`` gives the process's one at its place, started or connected to when it is first wanted and again after a
    crash; ``release`` ends it when nobody holds it any more. A remote browser is never ended, only left.
    """

    _shared: "dict[str, Browser]" = {}  # by place
    _locks: "dict[str, threading.Lock]" = defaultdict(threading.Lock)

    def __init__(self, place: str, seconds: float = _LAUNCH) -> None:
        """Start it; raises UsageError when there is no browser or no display, EnvError when it does not start."""
        if place == VISIBLE and sys.platform == "linux" and not _display():
            raise UsageError("a visible browser wants a display: set DISPLAY, run under xvfb-run, or stay headless")
        self.place, self.remote = place, place not in (HEADLESS, VISIBLE)
        self._executable = None if self.remote else find(headless=place == HEADLESS)
        self._process, self._pid = os.getpid(), 0  # ours, and that of a browser of our own
        self._holders, self._closed, self._lost = 0, False, False
        self._free = list[Profile]()
        self._asides = set[asyncio.Task[None]]()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_complain)
        self._thread = threading.Thread(target=self._work, name="turngym-browser", daemon=True)
        self._thread.start()
        self._playwright: Playwright | None = None
        self._connected: Chromium | None = None
        try:
            self.chromium: Chromium = self.run(self._begin(seconds), seconds)
        except BaseException:
            self.close()
            raise

    @classmethod
    def lease(cls, place: str, seconds: float) -> "Browser":
        """The shared browser of that place, begun if need be; raises what beginning raises.

        ``seconds`` is what connecting to a remote one may take.
        """
        with cls._locks[place]:
            browser = cls._shared.get(place)
            if browser is None or not browser.alive:
                browser = cls(place, _LAUNCH if place in (HEADLESS, VISIBLE) else seconds)
                cls._shared[place] = browser
            browser._holders += 1
            return browser

    def release(self) -> None:
        """Give one lease back."""
        with self._locks[self.place]:
            self._holders -= 1
            if self._holders:
                return
            if self._shared.get(self.place) is self:
                del self._shared[self.place]
        self.close()

    @property
    def alive(self) -> bool:
        """Whether it can be talked to: it runs, and its thread was not left behind by a fork."""
        return not self._closed and not self._lost and self._thread.is_alive() and self.chromium.is_connected()

    def profile(self, seconds: float) -> Profile:
        """A context to play in, used before or new; raises EnvError, or UsageError for an address not to be had."""
        while self._free:
            profile = self._free.pop()
            if profile.sound:
                return profile
            self.bury(profile)
        lane = _sites.lane(remote=self.remote)
        try:
            return self.run(Profile.create(self.chromium, lane), seconds)
        except BaseException as error:
            lane.close()
            if isinstance(error, EnvError):  # it has ended or hangs
                self._lost = True
                self._kill()
            raise

    def keep(self, profile: Profile) -> None:
        """Take back a profile that has to show nothing more, for the next engine."""
        profile.lane.end()
        if not self.alive or not profile.sound or len(self._free) >= _IDLE:
            self.bury(profile)
            return
        self._aside(profile.rest())
        self._free.append(profile)

    def bury(self, profile: Profile) -> None:
        """End a profile, whatever it does; a browser that cannot do that any more is given up."""
        profile.lane.close()
        if self.alive:
            self._aside(self._bury(profile))

    def run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """``work`` on the owner's thread; raises EnvError after ``seconds``, or when the browser fails."""
        if self._closed or not self._thread.is_alive():
            work.close()
            raise EnvError("the browser is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except Late:
            future.cancel()
            raise EnvError(f"the browser did not answer in {seconds:.3g} s") from None
        except CancelledError:
            raise EnvError("the browser was closed meanwhile") from None
        except Error as error:
            raise EnvError(f"the browser failed: {error.message.splitlines()[0]}") from error
        except BaseException as error:
            if _driver_ended(error):
                raise EnvError("the browser's driver ended") from error
            future.cancel()
            raise

    def close(self) -> None:
        """End the browser and the thread; may be called twice. In a forked child they are its parent's, and stay."""
        if self._closed or self._process != os.getpid():
            return
        for profile in self._free:
            profile.lane.close()
        self._free.clear()
        try:
            if self._lost:
                self._kill()
            self.run(self._end(), _LAUNCH)
        except EnvError:
            self._kill()  # it crashed or hangs
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

    async def _begin(self, seconds: float) -> Chromium:
        self._playwright = await async_playwright().start()
        chromium = self._playwright.chromium
        if self.place.startswith("http"):
            self._connected = await chromium.connect_over_cdp(self.place, timeout=seconds * 1e3)
            return self._connected
        if self.remote:
            self._connected = await chromium.connect(self.place, timeout=seconds * 1e3)
            return self._connected
        browser = await chromium.launch(
            executable_path=self._executable,
            headless=self.place == HEADLESS,
            args=[*flags(), *fast()],
            handle_sigint=False,  # Ctrl-C is the trainer's to handle: it may still want its pages
            handle_sigterm=False,
            handle_sighup=False,
        )
        session = await browser.new_browser_cdp_session()
        listed = await session.send("SystemInfo.getProcessInfo")
        await session.detach()
        self._pid = next(int(p["id"]) for p in listed["processInfo"] if p["type"] == "browser")
        self._aside_here(watch(self._pid))
        return browser

    async def _end(self) -> None:
        while under_way := list(self._asides):  # what they still say would go to a driver that has ended
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        if self._playwright:
            if self.remote and self._connected:
                await self._connected.close()  # our contexts; the browser is not ours
            await self._playwright.stop()  # ends a browser of our own too

    async def _bury(self, profile: Profile) -> None:
        try:
            await asyncio.wait_for(profile.close(), _BURIAL)
        except (TimeoutError, Error):  # it hangs, or Playwright's driver ended
            self._lost = True
            self._kill()

    def _kill(self) -> None:
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` on the owner's thread without waiting for it."""
        self._loop.call_soon_threadsafe(self._aside_here, work)

    def _aside_here(self, work: Coroutine[Any, Any, None]) -> None:
        async def carry() -> None:
            with suppress(Error, EnvError):  # what it was about is gone already
                await work

        task = self._loop.create_task(carry())
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)


_sites = Sites()


def _driver_ended(error: object) -> bool:
    return str(error).startswith("Connection closed")  # a plain Exception of Playwright's


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what asyncio would, but for the end of a driver: who waits for it is told, and nobody else has to know."""
    if not _driver_ended(context.get("exception")):
        loop.default_exception_handler(context)


def _display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@atexit.register
def _close_all() -> None:
    for browser in list(Browser._shared.values()):
        browser.close()
    _sites.stop()


def _forget() -> None:
    """A forked child has neither the thread nor the locks' holders: it starts a browser of its own."""
    Browser._shared, Browser._locks = {}, defaultdict(threading.Lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
