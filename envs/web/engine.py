"""What carries an action to a site and brings back a page; three engines, one meaning."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeVar

from .grammar import Do, Go
from .page import Page

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")


class Site(Protocol):
    """One episode's web application: an ASGI callable with its own database."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def close(self) -> None: ...


S = TypeVar("S", bound=Site)


class Engine(Protocol):
    """One user agent. All calls block, come from one thread, and raise EnvError when the engine itself fails."""

    def open(self, make: Callable[[], Site], path: str) -> Page:
        """Close what was open, host ``make()`` under a fresh origin and show ``path``, with no history.

        ``make`` runs in the thread that will serve the site, because a SQLite connection stays in its thread.
        """
        ...

    def act(self, command: Do | Go) -> Page:
        """Carry out a command; raises ActionError (and changes nothing) when it cannot be."""
        ...

    def query(self, ask: Callable[[Any], T]) -> T:
        """``ask(site)``, in the thread that serves the site."""
        ...

    def screenshot(self) -> bytes:
        """The page as PNG; raises UsageError in an engine that draws nothing."""
        ...

    def close(self) -> None:
        """Release everything; may be called twice."""
        ...
