"""The engine with a real Chromium: each episode has its own origins, its own way out and no other network."""

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, TypeVar

from ..errors import ActionError, EnvError, UsageError
from .browser import HEADLESS, VISIBLE, Browser
from .effects import check
from .engine import Make, Place, Site
from .grammar import Do, Go
from .page import Page
from .profile import Profile
from .remote import endpoints

T = TypeVar("T")
_HANG = 5.0  # seconds that the page of an episode that is over may take to be forgotten
_turns: Iterator[int] = count()  # deals the remote browsers to the engines


class BrowserEngine:
    """An Engine on Chromium.

    All engines of a process share one browser, or the ``remote`` ones. An engine keeps its context from episode to
    episode, until something fails in it. ``seconds`` is what an action, an opening or a question may take, apart from
    starting a browser; whatever takes longer raises EnvError (or Deadline, where it is a site's own doing), after which
    only ``open`` and ``close`` are of use.
    Forms of a site should have ``autocomplete="off"``, because Chromium otherwise fills them again on the way back.

    What a page may not do: windows, dialogs and downloads do not happen, and the action that led to one raises
    ActionError to say so; every request to another address than the episode's sites is refused by the lane and
    counted, over whatever protocol (HTTP, HTTPS, WebSocket; a browser of our own sends nothing over UDP either).
    """

    def __init__(self, *, headless: bool = True, remote: bool = False, seconds: float = 30.0) -> None:
        """Raises UsageError for a remote browser with a window."""
        if remote and not headless:
            raise UsageError("a remote browser shows no window here: use engine='browser' for render_mode='human'")
        self.headless, self.remote, self.seconds = headless, remote, seconds
        self._browser: Browser | None = None
        self._profile: Profile | None = None
        self._open = False  # whether an episode is

    @property
    def refused(self) -> int:
        return self._profile.refused if self._profile else 0

    def open(self, sites: Mapping[str, Make], places: Sequence[Place]) -> Page:
        """As Engine.open; raises UsageError when there is no browser to run."""
        self._open = False
        until = time.monotonic() + self.seconds
        profile = self._ready(until)
        try:
            hosted = profile.lane.open(sites)
            origins = {name: origin for origin, name in hosted.items()}
            urls = [origins[place.site] + place.path for place in places]
            page = self._run(profile.guard(profile.begin(hosted, urls)), until - time.monotonic())
            profile.lane.check()
        except BaseException:
            self._drop()
            raise
        self._open = True
        return page

    def act(self, command: Do | Go) -> Page:
        profile = self._now()
        check(command, profile.page)
        try:
            try:
                return self._run(profile.guard(profile.act(command)), self.seconds)
            finally:
                profile.lane.check()
        except ActionError:
            raise
        except BaseException:
            self._drop()  # nobody knows what the page is now
            raise

    def query(self, ask: Callable[[Mapping[str, Site]], T]) -> T:
        return self._now().lane.query(ask)

    def screenshot(self) -> bytes:
        profile = self._now()
        return self._run(profile.guard(profile.png()), self.seconds)

    def close(self) -> None:
        profile, self._profile, self._open = self._profile, None, False
        browser, self._browser = self._browser, None
        if browser:
            try:
                if profile:
                    browser.keep(profile)
            finally:
                browser.release()

    def _now(self) -> Profile:
        if self._profile is None or not self._open:
            raise EnvError("no page is open: the engine was not opened, or failed since")
        if self._browser is None or not self._browser.alive:
            raise EnvError("the browser ended")
        return self._profile

    def _ready(self, until: float) -> Profile:
        """A profile that knows of no episode: the one at hand, unless what it showed last keeps it from forgetting."""
        while True:
            if self._profile and not self._profile.sound:
                self._drop()
            profile = self._profile = self._profile or self._lease(until)
            profile.lane.end()  # first, or the page that is still shown gets answers, and cookies with them
            try:
                self._run(profile.guard(profile.clear()), min(_HANG, self.seconds))
                return profile
            except EnvError:
                self._drop()  # that was the episode before, which is over: no failure of the next

    def _lease(self, until: float) -> Profile:
        """A profile of the browser at hand, or of another where that turns out to be dead."""
        while True:
            begun = self._browser is None or not self._browser.alive  # at first, or after a crash
            if begun:
                browser, self._browser = self._browser, None
                if browser:
                    browser.release()
                self._browser = self._find()
            assert self._browser
            try:
                return self._browser.profile(self.seconds if begun else until - time.monotonic())
            except EnvError:
                if begun or time.monotonic() >= until:
                    raise

    def _find(self) -> Browser:
        """A browser; of remote ones the next in turn that answers."""
        if not self.remote:
            return Browser.lease(HEADLESS if self.headless else VISIBLE, self.seconds)
        places, first, problems = endpoints(), next(_turns), list[EnvError]()
        for i in range(len(places)):
            try:
                return Browser.lease(places[(first + i) % len(places)], self.seconds / len(places))
            except EnvError as error:
                problems.append(error)
        raise problems[0]

    def _drop(self) -> None:
        """Let go of the profile, which nobody may use any more."""
        profile, self._profile, self._open = self._profile, None, False
        if profile and self._browser:
            self._browser.bury(profile)

    def _run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        assert self._browser is not None
        return self._browser.run(work, seconds)
