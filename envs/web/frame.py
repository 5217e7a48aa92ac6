"""The main frame of a tab, by the DevTools protocol: what it is asked, where it goes, and when it has arrived."""

import asyncio
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from playwright.async_api import BrowserContext, CDPSession, Error
from playwright.async_api import Page as Window

from ..errors import EnvError

WINDOW = "the page may not open a window"  # what became of the attempt, shown beside the page
DIALOG = "the page may not show a dialog"
_SCRIPT = (files(__package__) / "observe.js").read_text(encoding="utf-8")
_WORLD = "turngym"
_STARTED = 2.0  # seconds in which a navigation that was asked for has to start; most take one or two milliseconds
_SOON = 1.0  # seconds: a page that says it will be replaced later than that is a page
_REDONE = 5  # how often a page may send the browser on by itself


class Frame:
    """Every method runs on the browser's loop and raises what Playwright raises, or EnvError.

    The session's events say what the page does. A navigation that an action causes is asked for
    (``frameRequestedNavigation``) before the answer to the action arrives, because one renderer thread sends both;
    it ends with ``frameStoppedLoading``, whether it showed a page, was a download, or came to nothing. So an action
    that asks for none is over at once, and nothing sleeps or polls.
    """

    def __init__(self, window: Window, session: CDPSession, id: str) -> None:
        self.window, self.send, self._id = window, session.send, id
        self.notes = set[str]()  # what the page tried and may not do
        self.asked = self.came = False  # a navigation was asked for, or showed something, since the last ``expect``
        self.heading = ""  # where the last navigation was bound for
        self._started, self._stopped = asyncio.Event(), asyncio.Event()  # it goes somewhere; it has arrived
        self._world, self._ready = "", asyncio.Event()  # the unique id of the document's isolated world
        events: dict[str, Callable[[dict[str, Any]], None]] = {
            "Page.frameRequestedNavigation": self._on_asked,
            "Page.frameScheduledNavigation": self._on_scheduled,
            "Page.frameStartedNavigating": self._on_started,
            "Page.frameStoppedLoading": self._on_stopped,
            "Page.frameNavigated": self._on_came,
            "Page.navigatedWithinDocument": self._on_came,
            "Page.windowOpen": lambda _: self.notes.add(WINDOW),
            "Log.entryAdded": self._on_log,
            "Runtime.executionContextCreated": self._on_world,
            "Runtime.executionContextsCleared": lambda _: self._ready.clear(),
        }
        for event, then in events.items():
            session.on(event, then)

    @classmethod
    async def create(cls, context: BrowserContext, lose: Callable[[str], None]) -> "Frame":
        """That of a blank window of ``context``; ``lose`` is told why when it is lost."""
        window = await context.new_page()
        window.on("crash", lambda _: lose("the page crashed"))
        session = await context.new_cdp_session(window)
        tree = await session.send("Page.getFrameTree")
        frame = cls(window, session, tree["frameTree"]["frame"]["id"])
        await asyncio.gather(
            session.send("Page.enable"),
            session.send("Runtime.enable"),
            session.send("Log.enable"),
            session.send("Page.addScriptToEvaluateOnNewDocument", {"source": _SCRIPT, "worldName": _WORLD}),
        )
        return frame

    @property
    def blank(self) -> bool:
        """Whether there is no document yet to ask anything."""
        return not self._ready.is_set()

    async def evaluate(self, expression: str) -> Any:
        """What ``expression`` is, or is promised to be, in the isolated world of the document."""
        await self._ready.wait()
        answer = await self.send(
            "Runtime.evaluate",
            {
                "expression": expression,
                "returnByValue": True,
                "awaitPromise": True,
                "uniqueContextId": self._world,
            },
        )
        if "exceptionDetails" in answer:
            raise EnvError(f"the page's walk failed: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def ask(self, expression: str) -> Any:
        """As ``evaluate``, again where the page was replaced meanwhile."""
        for _ in range(_REDONE):
            try:
                return await self.evaluate(expression)
            except Error as error:
                if not replaced(error):
                    raise
        raise EnvError(f"the page replaced itself {_REDONE} times while it was read")

    async def navigate(self, url: str) -> None:
        """Go to ``url`` and arrive; EnvError when there is nobody. ``came`` says whether there was a page."""
        self.expect()
        answer = await self.send("Page.navigate", {"url": url})
        if answer.get("errorText", "net::ERR_ABORTED") != "net::ERR_ABORTED":  # that is no page, such as a download
            raise EnvError(f"{url} cannot be opened: {answer['errorText']}")
        if "errorText" not in answer:
            await self._stopped.wait()
        await self.settle()

    async def enter(self, entry: dict[str, Any]) -> None:
        """Go to an entry of the history and arrive."""
        self.expect()
        await self.send("Page.navigateToHistoryEntry", {"entryId": entry["id"]})
        await self._stopped.wait()
        await self.settle()

    async def history(self) -> tuple[int, list[dict[str, Any]]]:
        history = await self.send("Page.getNavigationHistory")
        return history["currentIndex"], history["entries"]

    def expect(self) -> None:
        """What is asked for and comes from now on is the next action's doing."""
        self.asked = self.came = False
        self._started.clear()
        self._stopped.clear()

    async def settle(self) -> None:
        """Wait for the end of the navigation that was asked for, if one was, and of those that its pages ask for."""
        for _ in range(_REDONE):
            if not self.asked:
                return
            self.asked = False
            if not self._stopped.is_set():
                try:
                    await asyncio.wait_for(self._started.wait(), _STARTED)
                except TimeoutError:
                    return  # what was asked for is none: the page's own policy forbade it
            await self._stopped.wait()

    def _on_asked(self, about: dict[str, Any]) -> None:
        if about["frameId"] == self._id and not about["url"].startswith("javascript:"):
            self.asked = True
            self._stopped.clear()  # whatever that was, it is not what was asked for now

    def _on_scheduled(self, about: dict[str, Any]) -> None:
        if about["delay"] < _SOON:
            self._on_asked(about)

    def _on_started(self, about: dict[str, Any]) -> None:
        if about["frameId"] == self._id:
            self.heading = about["url"]
            self._started.set()
            self._stopped.clear()

    def _on_stopped(self, about: dict[str, Any]) -> None:
        if about["frameId"] == self._id:
            self._started.clear()
            self._stopped.set()

    def _on_came(self, about: dict[str, Any]) -> None:
        if (about.get("frameId") or about["frame"]["id"]) == self._id:
            self.came = True

    def _on_log(self, about: dict[str, Any]) -> None:
        if "'allow-modals'" in about["entry"]["text"]:  # Chromium's complaint about alert, confirm, prompt and print
            self.notes.add(DIALOG)

    def _on_world(self, about: dict[str, Any]) -> None:
        context = about["context"]
        if context["name"] == _WORLD and context["auxData"]["frameId"] == self._id:
            self._world = context["uniqueId"]
            self._ready.set()


def replaced(error: Error) -> bool:
    """Whether the page was replaced while it was asked something."""
    return any(sign in error.message for sign in ("navigated or closed", "context", "Context", "Promise was collected"))
