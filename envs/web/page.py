"""What a page is to an agent: words and numbered elements in document order, the same from every engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["link", "button", "textbox", "select"]


@dataclass(frozen=True, slots=True)
class Element:
    """One thing to act on, for example ``Element(3, "link", "red chair")``.

    ``id`` counts the page's elements from 1 in document order. ``value`` is what a text box holds or the option
    a select shows; ``options`` are a select's choices.
    """

    id: int
    kind: Kind
    text: str
    value: str = ""
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How an action names the element: ``red chair [3]``."""
        return f"{self.text} [{self.id}]"

    def __str__(self) -> str:
        if self.kind == "textbox" and self.value:
            return f"{self.name} holds {self.value}"
        if self.kind == "select":
            return f"{self.name} is {self.value} of {' '.join(self.options)}"
        return self.name


Block = str | Element
LONGEST = 400  # characters of a title, a path, the list of tabs or an error


@dataclass(frozen=True, slots=True)
class Page:
    """A page: title, path with query, and its blocks (runs of text, elements) in document order."""

    title: str
    path: str
    blocks: tuple[Block, ...]
    site: str = ""  # the name of the site that it is of
    tabs: tuple[str, ...] = ()  # titles of all open tabs, when there is more than one
    tab: int = 0  # the one shown

    @property
    def elements(self) -> tuple[Element, ...]:
        return tuple(b for b in self.blocks if isinstance(b, Element))

    def element(self, id: int) -> Element | None:
        """The element with that number, or None."""
        elements = self.elements
        return elements[id - 1] if 0 < id <= len(elements) else None


def render(page: Page, *, error: str = "", budget: int = 4000) -> str:
    """The observation's text, at most ``budget`` characters long unless the head alone is longer.

    The head is the title, the path, the tabs and the error, each cut at ``LONGEST`` characters. Plain text goes
    first when the page is too long, from the end, then elements from the end; the last line says how much was
    dropped.
    """
    head = f"{_cut(page.title)} at {_cut(page.path.split('?')[0])}"
    if len(page.tabs) > 1:
        tabs = (f"{i} {title}{' here' if i == page.tab else ''}" for i, title in enumerate(page.tabs))
        head += _cut("\ntabs: " + ", ".join(tabs))
    if error:
        head += f"\nerror: {_cut(error)}"
    blocks, dropped = fit(page.blocks, budget - len(head))
    if dropped:
        blocks, dropped = fit(page.blocks, budget - len(head) - len(f"\n{len(page.blocks)} parts dropped"))
    tail = f"\n{dropped} parts dropped" if dropped else ""
    return f"{head}\n{' '.join(map(str, blocks))}{tail}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def fit(blocks: Sequence[Block], budget: int) -> tuple[list[Block], int]:
    """The blocks that fit in ``budget`` characters, and how many were dropped."""
    size = sum(len(str(b)) + 1 for b in blocks)
    keep = [True] * len(blocks)
    for droppable in (str, Element):
        for i in reversed(range(len(blocks))):
            if size <= budget:
                break
            if keep[i] and isinstance(blocks[i], droppable):
                keep[i] = False
                size -= len(str(blocks[i])) + 1
    return [b for b, k in zip(blocks, keep, strict=True) if k], keep.count(False)
