"""What carries an action to a site and brings back a page; three engines, one meaning."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from .grammar import Do, Go
from .page import Page

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")
TABS = 8  # that an episode may have open


class Site(Protocol):
    """One episode's web application: an ASGI callable with its own database."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def state(self) -> Any:
        """All that a visitor can change, as a value that compares by content."""
        ...

    def close(self) -> None: ...


Make = Callable[[], Site]


@dataclass(frozen=True, slots=True)
class Place:
    """A page of one of the episode's sites: what a tab starts with."""

    site: str
    path: str = "/"


class Engine(Protocol):
    """One user agent. All calls block, come from one thread, and raise EnvError when the engine itself fails.

    The sites of an episode share one token, which no other episode has: site ``s`` is at ``http://s.TOKEN.localhost``
    (with a port, where there are sockets), so that a site can spell another's address from its own Host header.
    """

    @property
    def refused(self) -> int:
        """Requests of the present episode for addresses outside its sites; none was sent."""
        ...

    def open(self, sites: Mapping[str, Make], places: Sequence[Place]) -> Page:
        """Close what was open, host the ``sites`` under fresh origins, show each place in a tab; the first is shown.

        No tab has a history. Each ``make`` runs in the thread that will serve the site, because a SQLite connection
        stays in its thread.
        """
        ...

    def act(self, command: Do | Go) -> Page:
        """Carry out a command; raises ActionError (and changes nothing) when it cannot be.

        What every engine does alike: an ordinary click, typing, choosing, Search, Press Enter, back and forward (in
        the shown tab's own history), Switch Tab; a link whose ``target`` is another window opens a tab and shows it,
        up to ``TABS``. Hover, Right Click, Scroll and Wait change nothing on a page without scripts; engines with a
        pointer and a clock carry them out.
        """
        ...

    def query(self, ask: Callable[[Mapping[str, Site]], T]) -> T:
        """``ask(sites)``, in the thread that serves them."""
        ...

    def screenshot(self) -> bytes:
        """The page as PNG; raises UsageError in an engine that draws nothing."""
        ...

    def close(self) -> None:
        """Release everything; may be called twice."""
        ...
