"""Reading lessons for the embedded policy: random pages in every format that will occur, one-step requests.

Words, element kinds and text format are those of the embedded sites; goals and flows are not: every request is
answered by one action on one random page, and nothing here knows a task.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..agents.memory import PLACEHOLDER
from ..agents.tiny.vocabulary import ASSISTANT, END, INTEGERS, SYSTEM, USER, words
from ..envs.web.env import THINK
from ..envs.web.grammar import quote, reason, show
from ..envs.web.page import Block, Element, Page, render

Piece = tuple[str, bool]  # text, and whether the policy learns to write it
THINKING = 0.15  # share of requests that ask for a thought before the action
TABBED = 0.2  # share of pages with several tabs


@dataclass(frozen=True, slots=True)
class Lesson:
    """A page and the requests that can be made of it: (words to fill around, action)."""

    page: str
    requests: tuple[tuple[str, str], ...]


def copying(rng: np.random.Generator, entries: Sequence[int]) -> tuple[list[int], list[int]]:
    """Token ids of random entries, twice, and the mask of the second pass: the copy circuit forms on these."""
    once = [entries[i] for i in rng.integers(0, len(entries), int(rng.integers(12, 29)))]
    return once + once, [0] * (len(once) + 1) + [1] * (len(once) - 1)


class Primer:
    """Makes chats in pieces from random pages.

    ``crowded`` is the share of pages whose elements are named by two of a few words, so that only both words
    together tell which is meant.
    """

    def __init__(self, rng: np.random.Generator, crowded: float = 0.0) -> None:
        self.rng, self.words, self.crowded = rng, words(), crowded
        self.pool: tuple[str, ...] = ()

    def chat(self, requests: int = 6) -> list[Piece]:
        """A request, a past, a page, the answer; then more requests of the same page."""
        lesson, thinking = self.lesson(), bool(self.rng.random() < THINKING)
        goal, action = self._request(lesson, thinking)
        pieces: list[Piece] = [(SYSTEM, False), (goal, False)]
        for _ in range(int(self.rng.integers(0, 10)) * int(self.rng.integers(0, 2))):
            past = self._past(thinking)
            pieces += [(USER, False), (PLACEHOLDER, False), (ASSISTANT, False), (past, False), (END, False)]
        pieces += [(USER, False), (lesson.page, False), (ASSISTANT, False), (action, True), (END, True)]
        for _ in range(requests):
            goal, action = self._request(lesson, thinking)
            pieces += [(SYSTEM, False), (goal, False), (ASSISTANT, False), (action, True), (END, True)]
        return pieces

    def lesson(self) -> Lesson:
        """A random page of 2 to 11 elements with some text between them."""
        rng = self.rng
        crowded = self.crowded > 0 and rng.random() < self.crowded
        self.pool = self._pool() if crowded else ()
        count = int(rng.integers(2, 12))
        first = 1 if rng.random() < 0.5 else int(rng.integers(1, 30))
        ids = [first + i for i in range(count)] if rng.random() < 0.5 else self._ids(count)
        blocks, requests, taken = list[Block](), list[tuple[str, str]](), set[str]()
        for id in ids:
            before = self._text(requests) if rng.random() < 0.25 else ""
            element = self._element(id, taken)
            blocks += [before, element] if before else [element]
            requests.append(self._use(element))
            if before and element.kind == "link":
                last = " ".join(before.split()[-2:])
                requests.append((f"after {last}", show("Click", element=element.name)))
        if rng.random() < 0.3:
            blocks.append(self._text(requests))
        path = "".join(f"/{self._word()}" for _ in range(int(rng.integers(0, 3)))) or "/"
        return Lesson(render(self._tabbed(Page(self._phrase(), path, tuple(blocks)), requests)), tuple(requests))

    def _pool(self) -> tuple[str, ...]:
        """A few distinct words, whose pairs are enough to name all elements of a page."""
        return tuple(self.words[i] for i in self.rng.permutation(len(self.words))[: int(self.rng.integers(5, 10))])

    def _tabbed(self, page: Page, requests: list[tuple[str, str]]) -> Page:
        """The page, sometimes among other tabs, which a request may ask for."""
        if self.rng.random() >= TABBED:
            return page
        titles = [self._phrase() for _ in range(int(self.rng.integers(2, 4)))]
        shown = int(self.rng.integers(len(titles)))
        titles[shown] = page.title
        requests += [
            (f"tab {title}", show("Switch Tab", argument=str(i))) for i, title in enumerate(titles) if i != shown
        ]
        return replace(page, tabs=tuple(titles), tab=shown)

    def _use(self, element: Element) -> tuple[str, str]:
        """A request about ``element``, in its own words, and the action that answers it."""
        if element.kind == "textbox":
            text, search = self._phrase(), bool(self.rng.random() < 0.5)
            action = show("Search" if search else "Type", argument=text, element=element.name)
            return (f"{'search' if search else 'write'} {text} in {element.text}"), action
        if element.kind == "select":
            option = element.options[int(self.rng.integers(len(element.options)))]
            return f"{element.text} {option}", show("Select Dropdown Option", argument=option, element=element.name)
        return element.text, show("Click", element=element.name)

    def _element(self, id: int, taken: set[str]) -> Element:
        text = self._name()
        while text in taken:
            text = self._name()
        taken.add(text)
        kind = self.rng.random()
        if kind < 0.12:
            value = self._phrase() if self.rng.random() < 0.3 else ""
            return Element(id, "textbox", text, value)
        if kind < 0.2:
            options = tuple(dict.fromkeys(self._word() for _ in range(int(self.rng.integers(2, 7)))))
            return Element(id, "select", text, options[int(self.rng.integers(len(options)))], options)
        return Element(id, "link", text)

    def _text(self, requests: list[tuple[str, str]]) -> str:
        """Some words; sometimes one of them stands before a number or a word, which a request may ask for."""
        text = " ".join(self._word() for _ in range(int(self.rng.integers(1, 5))))
        if self.rng.random() < 0.5:
            label, value = self._word(), str(INTEGERS[int(self.rng.integers(len(INTEGERS)))])
            if self.rng.random() < 0.2:
                value = self._word()
            requests.append((f"is {label}", f"exit(message={quote(value)})"))
            text += f" {label} {value}"
        return text

    def _request(self, lesson: Lesson, thinking: bool) -> tuple[str, str]:
        """Words around a request, and its answer; a thought names what is asked."""
        asked, action = lesson.requests[int(self.rng.integers(len(lesson.requests)))]
        before = [self._word() for _ in range(int(self.rng.integers(0, 4)))]
        after = [self._word() for _ in range(int(self.rng.integers(0, 4)))]
        goal = " ".join([*before, asked, *after])
        return (THINK + goal, reason(f"need {asked}", action)) if thinking else (goal, action)

    def _past(self, thinking: bool) -> str:
        element = f"{self._phrase()} [{int(self.rng.integers(1, 40))}]"
        if self.rng.random() < 0.2:
            action = show("Search", argument=self._phrase(), element=element)
        else:
            action = show("Click", element=element)
        return reason(f"need {self._phrase()}", action) if thinking else action

    def _name(self) -> str:
        if not self.pool:
            return self._phrase()
        first, second = self.rng.permutation(len(self.pool))[:2]
        return f"{self.pool[first]} {self.pool[second]}"

    def _phrase(self) -> str:
        return " ".join(self._word() for _ in range(1 if self.rng.random() < 0.3 else 2))

    def _word(self) -> str:
        return self.words[int(self.rng.integers(len(self.words)))]

    def _ids(self, count: int) -> list[int]:
        return [int(i) + 1 for i in self.rng.permutation(40)[:count]]
