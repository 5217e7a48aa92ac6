"""One tab of the browser: what it shows of the episode's sites, and what an action does to it."""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Error

from ..errors import ActionError, EnvError
from .effects import AWAY, DOWNLOAD, Noted, no_element, no_page
from .frame import Frame, replaced
from .grammar import Do, Go
from .lane import Fate
from .page import Block, Element, Page

_REDONE = 5  # how often a page may be left again until it is one of the episode's sites
_POINTER: Mapping[str, tuple[dict[str, Any], ...]] = {
    "Hover": ({"type": "mouseMoved"},),
    "Right Click": (
        {"type": "mouseMoved"},
        {"type": "mousePressed", "button": "right", "clickCount": 1},
        {"type": "mouseReleased", "button": "right", "clickCount": 1},
    ),
}


class Tab:
    """A tab, by its ``frame``; every method runs on the browser's loop.

    ``fate`` tells what became of the last page that was asked for.
    """

    def __init__(self, frame: Frame, fate: Callable[[], Fate]) -> None:
        self.frame, self._fate = frame, fate
        self.page = Page("", "", ())  # as last seen
        self.refused = 0  # links and forms that led away
        self._sites: Mapping[str, str] = {}  # names by origin
        self.rests = False  # it was told to show nothing
        self._empty = False  # the first page was none: there is nothing to see
        self._pointed = False  # the pointer is somewhere over the page

    async def clear(self) -> None:
        """Stop what the page still loads; it does not end when the page hangs."""
        if self.frame.blank:
            return
        if self._pointed:
            self._pointed = False
            await self.frame.send("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": -1, "y": -1})
        await self.frame.ask("window.stop(), window.name = ''")

    async def rest(self) -> None:
        """Show nothing."""
        self.rests = True
        await self.frame.navigate("about:blank")

    async def visit(self, sites: Mapping[str, str], url: str) -> None:
        """Show ``url``, which is of one of the ``sites`` (names by origin), and forget the history.

        Raises ActionError where it leads away or is a download.
        """
        self._sites, self.refused, self.rests, self._empty = sites, 0, False, False
        self.frame.notes.clear()
        await self.frame.navigate(url)
        if self.frame.came:
            await asyncio.gather(self._show(), self.frame.send("Page.resetNavigationHistory"))
            return
        self._must_be_nothing()
        self._empty, parts = True, urlsplit(url)
        self.page = Page("", parts.path + (f"?{parts.query}" if parts.query else ""), ())  # no site's page
        await self.frame.send("Page.resetNavigationHistory")

    async def act(self, command: Do) -> str:
        """Carry out a command that ``effects.check`` let pass; the URL that a new tab has to show then, else "".

        Raises ActionError, Noted among them.
        """
        if self._empty:
            return ""
        frame = self.frame
        frame.expect()
        frame.notes.clear()
        words = json.dumps([command.action, command.element, command.argument, list(self._sites)])
        try:
            done, seen = await frame.evaluate(f"turngym.act({words[1:-1]})")
            if isinstance(done, dict) and "x" in done:
                seen = await self._point(command, done)
        except Error as error:
            if not replaced(error):
                raise
            frame.asked, done, seen = True, "done", None  # the new page came before the answer
        if isinstance(done, dict) and "open" in done:
            return str(done["open"])
        self._must(done, command)
        if frame.asked:
            await self._arrive()
        else:
            self.page = self._read(seen)
        if frame.notes:
            raise Noted(" and ".join(sorted(frame.notes)), self.page)
        return ""

    async def go(self, command: Go) -> None:
        """One page back or forward; raises ActionError at the end of the history."""
        at, entries = await self.frame.history()
        to = at + (1 if command.forward else -1)
        if not 0 <= to < len(entries) or not self._own(entries[to]["url"]):
            raise no_page(command)
        await self.frame.enter(entries[to])
        await self._show()

    async def front(self) -> None:
        """Be the tab that is shown, and see what became of the page meanwhile."""
        await self.frame.send("Page.bringToFront")
        if not self._empty:
            await self._show()

    async def png(self) -> bytes:
        """The visible part of the page."""
        shot = await self.frame.send("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": True})
        return base64.b64decode(shot["data"])

    async def _point(self, command: Do, place: dict[str, float]) -> Any:
        """Move the pointer there, press its right button if that is wanted, and look."""
        self._pointed = True
        for event in _POINTER[command.action]:
            await self.frame.send("Input.dispatchMouseEvent", {**event, **place})
        return await self.frame.evaluate("turngym.pointed()")

    async def _arrive(self) -> None:
        """Wait for the page that was asked for, and see it; raises ActionError when it was none to be seen."""
        await self.frame.settle()
        await self._show()
        if not self.frame.came:
            if not self._own(self.frame.heading):  # such as mailto:
                self.refused += 1
                raise ActionError(AWAY)
            self._must_be_nothing()

    def _must_be_nothing(self) -> None:
        fate = self._fate()
        if fate in ("away", "download"):
            raise ActionError(AWAY if fate == "away" else DOWNLOAD)

    async def _show(self) -> None:
        """See the page as it is now; a page that the browser made itself is left again."""
        away = False
        for _ in range(_REDONE):
            seen = await self.frame.ask("turngym.page()")
            if self.frame.asked:  # the page sends the visitor on
                await self.frame.settle()
                continue
            if seen["origin"] in self._sites:
                break
            at, entries = await self.frame.history()
            if self._own(entries[at]["url"]):
                # The answer to a POST is not kept (no-store), and asking to send it again needs a person: GET it.
                await self.frame.navigate(entries[at]["url"])
            elif at:
                away = True
                await self.frame.enter(entries[at - 1])
            else:
                raise ActionError(AWAY)
        else:
            raise EnvError(f"the page moved on {_REDONE} times, at last to {seen['path'] or seen['origin']}")
        self._empty = False
        self.page = self._read(seen)
        if away:
            raise ActionError(AWAY)

    def _own(self, url: str) -> bool:
        return any(url.startswith(origin + "/") for origin in self._sites)

    def _must(self, done: object, command: Do) -> None:
        """Raises ActionError unless the page did as it was told."""
        if done == "away":
            self.refused += 1
            raise ActionError(AWAY)
        if done == "download":
            raise ActionError(DOWNLOAD)
        if done == "gone":
            raise no_element(command)

    def _read(self, seen: dict[str, Any]) -> Page:
        blocks, count = list[Block](), 0
        for block in seen["blocks"]:
            if isinstance(block, str):
                blocks.append(block)
                continue
            count += 1
            kind, text, value, options = block
            blocks.append(Element(count, kind, text, value, tuple(options)))
        return Page(seen["title"], seen["path"], tuple(blocks), self._sites[seen["origin"]])
