"""What a web task is: words to follow, a page to start from, evaluators of the end, and a gold way to it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .engine import Place
from .grammar import quote, reason, show
from .page import Page


@dataclass(frozen=True, slots=True)
class Final:
    """How an episode ended: the page shown, each site's state, and the message of ``exit`` (None without one)."""

    page: Page
    states: Mapping[str, Any]
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
    """The page shown is this one of this site; a query does not matter (WebArena's url_match)."""

    site: str
    path: str

    def __call__(self, final: Final) -> bool:
        return (final.page.site, final.page.path.split("?")[0]) == (self.site, self.path)


@dataclass(frozen=True, slots=True)
class StateMatch:
    """All that a visitor can change on a site stands exactly so (in place of WebArena's program_html)."""

    site: str
    state: Any

    def __call__(self, final: Final) -> bool:
        return bool(final.states[self.site] == self.state)


@dataclass(frozen=True, slots=True)
class Step:
    """One gold action: on the first element with text ``element``, or an exit with ``argument``.

    ``thought`` is what a demonstrator thinks before it: the part of the goal that the action serves.
    """

    action: str
    element: str = ""
    argument: str | None = None
    thought: str = ""

    def spell(self, page: Page, *, thinking: bool = False) -> str:
        """The action on ``page`` in the grammar; raises LookupError where the element is missing."""
        return reason(self.thought, self._call(page)) if thinking else self._call(page)

    def _call(self, page: Page) -> str:
        if self.action == "exit":
            return f"exit(message={quote(self.argument or '')})"
        if not self.element:
            return show(self.action, argument=self.argument)
        found = [e for e in page.elements if e.text == self.element]
        if not found:
            raise LookupError(f"no {self.element!r} on {page.title} at {page.path}")
        return show(self.action, argument=self.argument, element=found[0].name)


def because(thought: str, *steps: Step) -> tuple[Step, ...]:
    """The steps, thought of as serving ``thought``."""
    return tuple(replace(step, thought=thought) for step in steps)


def click(*texts: str) -> tuple[Step, ...]:
    """Clicks on elements by their texts."""
    return tuple(Step("Click", text) for text in texts)


@dataclass(frozen=True, slots=True)
class Task:
    """One task: ``template`` and ``level`` group it, ``gold`` solves it from the first of the places in ``start``."""

    template: str
    level: int
    goal: str
    start: tuple[Place, ...]
    evaluators: tuple[Evaluator, ...]
    gold: tuple[Step, ...]

    def success(self, final: Final) -> bool:
        return all(evaluator(final) for evaluator in self.evaluators)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
