"""The fast engine: requests in process, pages by lexbor, no JavaScript and no drawing."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ..errors import UsageError
from .document import join
from .effects import check, room
from .engine import Make, Place, Site
from .grammar import Do, Go
from .network import Network
from .page import Page
from .parser_tab import Tab

T = TypeVar("T")


class ParserEngine:
    """An Engine without a browser; each ``open`` gets fresh origins, tabs and databases."""

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}
        self._network = Network({}, "")

    @property
    def refused(self) -> int:
        return self._network.refused

    def open(self, sites: Mapping[str, Make], places: Sequence[Place]) -> Page:
        self.close()
        for name, make in sites.items():
            self._sites[name] = make()
        self._network = network = Network(self._sites, secrets.token_hex(8))
        self._tabs = [Tab(network, join(network.address(p.site, "/"), p.path)) for p in places]
        self._shown = 0
        return self._page()

    def act(self, command: Do | Go) -> Page:
        tab = self._tabs[self._shown]
        element = check(command, self._page())
        if isinstance(command, Go):
            tab.go(command)
        elif command.action == "Switch Tab":
            self._shown = int(command.argument)
        elif element and command.action == "Click" and (url := tab.elsewhere(element)):
            room(len(self._tabs))
            self._tabs.append(Tab(self._network, url))
            self._shown = len(self._tabs) - 1
        else:
            tab.do(command, element)
        return self._page()

    def query(self, ask: Callable[[Mapping[str, Site]], T]) -> T:
        return ask(self._sites)

    def screenshot(self) -> bytes:
        raise UsageError("the parser engine draws nothing; use engine='browser' for pictures")

    def close(self) -> None:
        while self._sites:
            self._sites.popitem()[1].close()

    def _page(self) -> Page:
        page = self._tabs[self._shown].document.page
        if len(self._tabs) == 1:
            return page
        return replace(page, tabs=tuple(t.document.page.title for t in self._tabs), tab=self._shown)
