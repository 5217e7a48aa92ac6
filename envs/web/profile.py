"""A context of the browser, used for one episode after another: its tabs, and what it forgets between them."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext

from ..errors import ActionError, EnvError
from .effects import Noted, room
from .frame import Frame
from .grammar import Do, Go
from .page import Page
from .server import Lane
from .tab import Tab

T = TypeVar("T")
SIZE = (640, 480)  # of the window, in pixels: enough to read, small enough to embed
_WORN = 200  # episodes: Playwright keeps a few kilobytes of every navigation as long as the context is there
_KEPT = 2  # tabs that stay for the next episode: most start with one or two
_ALL = "appcache,cookies,file_systems,indexeddb,local_storage,websql,service_workers,cache_storage,storage_buckets"


class Profile:
    """A context whose only way out is its ``lane``; every method runs on the browser's loop.

    Nothing of an episode is left to the next: its origins have a token that no other episode has, and cookies,
    storage, history and the tabs' names are forgotten besides, so that nothing piles up.
    """

    def __init__(self, context: BrowserContext, lane: Lane) -> None:
        self._context, self.lane = context, lane
        self._tabs: list[Tab] = []  # of the episode
        self._spare: list[Tab] = []
        self._shown, self._episodes = 0, 0
        self._resting: asyncio.Task[Any] | None = None
        self._away = 0  # refused by tabs that are closed
        self._sites: Mapping[str, str] = {}
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def create(cls, chromium: Chromium, lane: Lane) -> "Profile":
        context = await chromium.new_context(
            viewport={"width": SIZE[0], "height": SIZE[1]},
            accept_downloads=False,
            service_workers="block",
            proxy={"server": lane.url},
        )
        profile = cls(context, lane)
        context.on("close", lambda _: profile._lose("the browser ended"))
        return profile

    @property
    def page(self) -> Page:
        """As last seen."""
        page = self._tabs[self._shown].page
        if len(self._tabs) == 1:
            return page
        return replace(page, tabs=tuple(tab.page.title for tab in self._tabs), tab=self._shown)

    @property
    def refused(self) -> int:
        """Requests of the episode for addresses outside its sites."""
        return self.lane.refused + self._away + sum(tab.refused for tab in self._tabs)

    @property
    def sound(self) -> bool:
        """Whether it may be used for another episode: nothing of it is known to be lost, and it is not worn."""
        return not self._lost.done() and self._episodes < _WORN

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """``work``, given up with EnvError as soon as a page or the browser is lost."""
        task = asyncio.ensure_future(work)
        try:
            either: list[asyncio.Future[Any]] = [task, self._lost]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._lost.result()
            return await task
        finally:
            task.cancel()

    async def clear(self) -> None:
        """Forget the episode before; it does not end when a page of it hangs."""
        if self._resting:
            await asyncio.wait({self._resting})
            self._resting = None
        tabs, self._tabs, self._shown = self._tabs + self._spare, [], 0
        self._spare, extra = tabs[:_KEPT], tabs[_KEPT:]
        sites, self._sites = self._sites, {}
        if sites and tabs:
            send = tabs[0].frame.send
            wipes = [send("Storage.clearDataForOrigin", {"origin": o, "storageTypes": _ALL}) for o in sites]
            await asyncio.gather(
                send("Network.clearBrowserCookies"),
                *wipes,
                *(tab.clear() for tab in self._spare),
                *(tab.frame.window.close() for tab in extra),
            )

    async def begin(self, sites: Mapping[str, str], urls: Sequence[str]) -> Page:
        """Show each URL in a tab, the first before all; ``sites`` are names by origin. After ``clear`` only."""
        self._sites, self._away, self._episodes = sites, 0, self._episodes + 1
        for _ in urls:
            self._tabs.append(await self._tab())
        visits = [tab.visit(sites, url) for tab, url in zip(self._tabs, urls, strict=True)]
        rests = [tab.rest() for tab in self._spare if not tab.rests]
        for problem in await asyncio.gather(*visits, *rests, return_exceptions=True):
            if problem:
                raise problem
        if len(urls) > 1:
            await self._tabs[0].front()
        return self.page

    async def act(self, command: Do | Go) -> Page:
        """Carry out a command that ``effects.check`` let pass; raises ActionError."""
        tab = self._tabs[self._shown]
        try:
            if isinstance(command, Go):
                await tab.go(command)
            elif command.action == "Switch Tab":
                self._shown = int(command.argument)
                await self._tabs[self._shown].front()
            elif url := await tab.act(command):
                await self._open(url)
        except Noted as note:
            raise Noted(str(note), self.page) from None
        return self.page

    async def png(self) -> bytes:
        """The visible part of the shown page."""
        return await self._tabs[self._shown].png()

    async def rest(self) -> None:
        """Show nothing until the next episode."""
        self._resting = asyncio.current_task()
        await asyncio.gather(*(tab.rest() for tab in self._tabs + self._spare))

    async def close(self) -> None:
        await self._context.close()

    async def _open(self, url: str) -> None:
        """A new tab that shows ``url``; where it cannot, all is as before."""
        room(len(self._tabs))
        tab = await self._tab()
        try:
            await tab.visit(self._sites, url)
        except ActionError:
            self._away += tab.refused
            self._spare.append(tab)
            raise
        self._tabs.append(tab)
        self._shown = len(self._tabs) - 1
        await tab.front()

    async def _tab(self) -> Tab:
        if self._spare:
            return self._spare.pop(0)
        return Tab(await Frame.create(self._context, self._lose), lambda: self.lane.fate)

    def _lose(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_exception(EnvError(why))
            self._lost.exception()  # marks it as seen: nobody may be waiting
