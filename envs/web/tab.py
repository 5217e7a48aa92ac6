"""One tab of the browser, by the DevTools protocol: what it shows, and when an action is over."""

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any, TypeVar

from playwright.async_api import BrowserContext, CDPSession, Error

from ..errors import ActionError, EnvError
from .effects import AWAY, no_element, no_page
from .grammar import Do, Go
from .page import Block, Element, Page

T = TypeVar("T")
_SCRIPT = (files(__package__) / "observe.js").read_text(encoding="utf-8")
_WORLD = "turngym"
_LEADING = ("Click", "Search", "Press Enter")  # what may lead to another page
_STARTED = 2.0  # seconds in which a navigation that was asked for has to start; most take one or two milliseconds
_REDONE = 5  # how often a page may replace itself while it is being read


class Tab:
    """A page of its own context; every method runs on the browser's loop.

    The session's events say what the page does. A navigation that an action causes is asked for
    (``frameRequestedNavigation``) before the answer to the action arrives, because one renderer thread sends both;
    it ends with ``frameStoppedLoading``, whether it showed a page, was a download, or came to nothing. So an action
    that asks for none is over at once, and nothing sleeps or polls.
    """

    def __init__(self, session: CDPSession, frame: str, origin: str) -> None:
        self._session, self._frame, self._origin = session, frame, origin
        self.page = Page("", "", ())  # as last seen
        self._asked = False  # a navigation was asked for since the last ``_expect``
        self._started, self._stopped = asyncio.Event(), asyncio.Event()
        self._world, self._ready = "", asyncio.Event()  # the unique id of the document's isolated world
        self._listen("Page.frameRequestedNavigation", self._on_asked)
        self._listen("Page.frameStartedNavigating", self._on_started)
        self._listen("Page.frameStoppedLoading", self._on_stopped)
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asides = set[asyncio.Task[None]]()
        session.on("Runtime.executionContextCreated", self._on_world)
        session.on("Runtime.executionContextsCleared", self._on_cleared)

    @classmethod
    async def create(cls, context: BrowserContext, origin: str) -> "Tab":
        """A blank tab of ``context`` that may show pages of ``origin`` only."""
        page = await context.new_page()
        session = await context.new_cdp_session(page)
        tree = await session.send("Page.getFrameTree")
        tab = cls(session, tree["frameTree"]["frame"]["id"], origin)
        page.on("crash", lambda _: tab._lose("the page crashed"))
        page.on("close", lambda _: tab._lose("the browser ended"))
        page.on("dialog", lambda dialog: tab._aside(dialog.dismiss()))
        context.on("page", lambda window: tab._aside(window.close()))  # one tab: other windows are not shown
        await asyncio.gather(
            session.send("Page.enable"),
            session.send("Runtime.enable"),
            session.send("Page.addScriptToEvaluateOnNewDocument", {"source": _SCRIPT, "worldName": _WORLD}),
        )
        return tab

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """``work``, given up with EnvError as soon as the page or its browser is lost."""
        task = asyncio.ensure_future(work)
        try:
            either: list[asyncio.Future[Any]] = [task, self._lost]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._lost.result()
            return await task
        finally:
            task.cancel()

    async def visit(self, path: str) -> None:
        """Show ``path`` of the origin, and forget the history."""
        await self._navigate(self._origin + path)
        await self._session.send("Page.resetNavigationHistory")
        await self._show()

    async def act(self, command: Do) -> None:
        """Carry out a command that ``effects.check`` let pass."""
        call = f"turngym.act({json.dumps([command.action, command.element, command.argument])[1:-1]})"
        if command.action not in _LEADING:
            done, seen = await self._evaluate(f"[{call}, turngym.page()]")
            _must(done, command)
            self.page = _page(seen)
            return
        self._expect()
        try:
            _must(await self._evaluate(call), command)
        except Error as error:
            if not _replaced(error):
                raise
            self._asked = True  # the new page came before the answer
        await self._settle()
        await self._show()

    async def go(self, command: Go) -> None:
        """One page back or forward; raises ActionError at the end of the history."""
        at, entries = await self._history()
        to = at + (1 if command.forward else -1)
        if not 0 <= to < len(entries) or not self._own(entries[to]["url"]):
            raise no_page(command)
        await self._enter(entries[to])
        await self._show()

    async def png(self) -> bytes:
        """The visible part of the page."""
        shot = await self._session.send("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": True})
        return base64.b64decode(shot["data"])

    async def _show(self) -> None:
        """See the page as it is now; a page that the browser made itself is left again."""
        away = False
        for _ in range(_REDONE):
            seen = await self._look()
            if seen["origin"] == self._origin:
                break
            at, entries = await self._history()
            if self._own(entries[at]["url"]):
                # The answer to a POST is not kept (no-store), and asking to send it again needs a person: GET it.
                await self._navigate(entries[at]["url"])
            elif at:
                away = True
                await self._enter(entries[at - 1])
        else:
            raise EnvError(f"the page left its site for {seen['origin']}")
        self.page = _page(seen)
        if away:
            raise ActionError(AWAY)

    def _own(self, url: str) -> bool:
        return url.startswith(self._origin + "/")

    async def _look(self) -> dict[str, Any]:
        for _ in range(_REDONE):
            try:
                seen: dict[str, Any] = await self._evaluate("turngym.page()")
                return seen
            except Error as error:
                if not _replaced(error):
                    raise
        raise EnvError(f"the page replaced itself {_REDONE} times while it was read")

    async def _evaluate(self, expression: str) -> Any:
        await self._ready.wait()
        answer = await self._session.send(
            "Runtime.evaluate",
            {"expression": expression, "returnByValue": True, "uniqueContextId": self._world},
        )
        if "exceptionDetails" in answer:
            raise EnvError(f"the page's walk failed: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def _navigate(self, url: str) -> None:
        self._expect()
        answer = await self._session.send("Page.navigate", {"url": url})
        if answer.get("errorText"):
            raise EnvError(f"{url} cannot be opened: {answer['errorText']}")
        await self._stopped.wait()

    async def _history(self) -> tuple[int, list[dict[str, Any]]]:
        history = await self._session.send("Page.getNavigationHistory")
        return history["currentIndex"], history["entries"]

    async def _enter(self, entry: dict[str, Any]) -> None:
        self._expect()
        await self._session.send("Page.navigateToHistoryEntry", {"entryId": entry["id"]})
        await self._stopped.wait()

    def _expect(self) -> None:
        self._asked = False
        self._started.clear()
        self._stopped.clear()

    async def _settle(self) -> None:
        """Wait for the end of the navigation that was asked for, if one was."""
        if not self._asked or self._stopped.is_set():
            return
        try:
            await asyncio.wait_for(self._started.wait(), _STARTED)
        except TimeoutError:
            return  # what was asked for is none, such as a javascript: link, or the page's own policy forbade it
        await self._stopped.wait()

    def _listen(self, event: str, then: Callable[[], None]) -> None:
        def of_frame(about: dict[str, Any]) -> None:
            if about["frameId"] == self._frame:
                then()

        self._session.on(event, of_frame)

    def _lose(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_exception(EnvError(why))
            self._lost.exception()  # marks it as seen: nobody may be waiting

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside the action that caused it, which may be waiting for it."""

        async def carry() -> None:
            try:
                await work
            except Error:
                pass  # the dialog or window is gone already

        task = asyncio.ensure_future(carry())
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    def _on_asked(self) -> None:
        self._asked = True

    def _on_started(self) -> None:
        self._started.set()

    def _on_stopped(self) -> None:
        self._started.set()
        self._stopped.set()

    def _on_cleared(self, _: dict[str, Any]) -> None:
        self._ready.clear()

    def _on_world(self, about: dict[str, Any]) -> None:
        context = about["context"]
        if context["name"] == _WORLD and context["auxData"]["frameId"] == self._frame:
            self._world = context["uniqueId"]
            self._ready.set()


def _page(seen: dict[str, Any]) -> Page:
    blocks, count = list[Block](), 0
    for block in seen["blocks"]:
        if isinstance(block, str):
            blocks.append(block)
            continue
        count += 1
        kind, text, value, options = block
        blocks.append(Element(count, kind, text, value, tuple(options)))
    return Page(seen["title"], seen["path"], tuple(blocks))


def _must(done: str, command: Do) -> None:
    if done == "away":
        raise ActionError(AWAY)
    if done == "gone":
        raise no_element(command)


def _replaced(error: Error) -> bool:
    """Whether the page was replaced while it was asked something."""
    return any(sign in error.message for sign in ("navigated or closed", "context", "Context"))
