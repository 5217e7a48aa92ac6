"""What a web task is: words to follow, a page to start from, evaluators of the end, and a gold way to it."""

from dataclasses import dataclass
from typing import Any, Protocol

from .grammar import quote, show
from .page import Page


@dataclass(frozen=True, slots=True)
class Final:
    """How an episode ended: the page shown, the site's state, and the message of ``exit`` (None without one)."""

    page: Page
    state: Any
    message: str | None


class Evaluator(Protocol):
    """Judges an end; a task succeeds when all its evaluators say yes."""

    def __call__(self, final: Final) -> bool: ...


@dataclass(frozen=True, slots=True)
class StringMatch:
    """The exit message is ``answer``, but for case and surrounding or repeated spaces (WebArena's string_match)."""

    answer: str

    def __call__(self, final: Final) -> bool:
        return final.message is not None and _plain(final.message) == _plain(self.answer)


@dataclass(frozen=True, slots=True)
class UrlMatch:
    """The page shown has this path; a query does not matter (WebArena's url_match)."""

    path: str

    def __call__(self, final: Final) -> bool:
        return final.page.path.split("?")[0] == self.path


@dataclass(frozen=True, slots=True)
class StateMatch:
    """All that a visitor can change stands exactly so (in place of WebArena's program_html)."""

    state: Any

    def __call__(self, final: Final) -> bool:
        return bool(final.state == self.state)


@dataclass(frozen=True, slots=True)
class Step:
    """One gold action: on the first element with text ``element``, or an exit with ``argument``."""

    action: str
    element: str = ""
    argument: str | None = None

    def spell(self, page: Page) -> str:
        """The action on ``page`` in the grammar; raises LookupError where the element is missing."""
        if self.action == "exit":
            return f"exit(message={quote(self.argument or '')})"
        found = [e for e in page.elements if e.text == self.element]
        if not found:
            raise LookupError(f"no {self.element!r} on {page.title} at {page.path}")
        return show(self.action, argument=self.argument, element=found[0].name)


@dataclass(frozen=True, slots=True)
class Task:
    """One task on one site: ``template`` and ``level`` group it, ``gold`` solves it from ``start``."""

    template: str
    level: int
    goal: str
    start: str
    evaluators: tuple[Evaluator, ...]
    gold: tuple[Step, ...]

    def success(self, final: Final) -> bool:
        return all(evaluator(final) for evaluator in self.evaluators)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
