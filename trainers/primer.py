"""Reading lessons for the embedded policy: random pages in every format that will occur, one-step requests.

Words, element kinds and text format are those of the embedded sites; goals and flows are not: every request is
answered by one action on one random page, and nothing here knows a task.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..agents.memory import PLACEHOLDER
from ..agents.tiny.vocabulary import ASSISTANT, END, INTEGERS, SYSTEM, USER, words
from ..envs.web.grammar import quote, show
from ..envs.web.page import Block, Element, Page, render

Piece = tuple[str, bool]  # text, and whether the policy learns to write it


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
        lesson = self.lesson()
        goal, action = self._request(lesson)
        pieces: list[Piece] = [(SYSTEM, False), (goal, False)]
        for _ in range(int(self.rng.integers(0, 10)) * int(self.rng.integers(0, 2))):
            pieces += [(USER, False), (PLACEHOLDER, False), (ASSISTANT, False), (self._past(), False), (END, False)]
        pieces += [(USER, False), (lesson.page, False), (ASSISTANT, False), (action, True), (END, True)]
        for _ in range(requests):
            goal, action = self._request(lesson)
            pieces += [(SYSTEM, False), (goal, False), (ASSISTANT, False), (action, True), (END, True)]
        return pieces

    def lesson(self) -> Lesson:
        """A random page of 2 to 11 elements with some text between them."""
        rng = self.rng
        crowded = self.crowded > 0 and rng.random() < self.crowded
        self.pool = tuple(self._word() for _ in range(int(rng.integers(5, 10)))) if crowded else ()
        count = int(rng.integers(2, 12))
        first = 1 if rng.random() < 0.5 else int(rng.integers(1, 30))
        ids = [first + i for i in range(count)] if rng.random() < 0.5 else self._ids(count)
        blocks, requests, taken = list[Block](), list[tuple[str, str]](), set[str]()
        for id in ids:
            if rng.random() < 0.25:
                blocks.append(self._text(requests))
            element = self._element(id, taken)
            blocks.append(element)
            requests.append(self._use(element))
        if rng.random() < 0.3:
            blocks.append(self._text(requests))
        path = "".join(f"/{self._word()}" for _ in range(int(rng.integers(0, 3)))) or "/"
        return Lesson(render(Page(self._phrase(), path, tuple(blocks))), tuple(requests))

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
        """Some words; sometimes one of them stands before a number, which a request may ask for."""
        text = " ".join(self._word() for _ in range(int(self.rng.integers(1, 5))))
        if self.rng.random() < 0.5:
            label, number = self._word(), str(INTEGERS[int(self.rng.integers(len(INTEGERS)))])
            requests.append((f"is {label}", f"exit(message={quote(number)})"))
            text += f" {label} {number}"
        return text

    def _request(self, lesson: Lesson) -> tuple[str, str]:
        asked, action = lesson.requests[int(self.rng.integers(len(lesson.requests)))]
        before = [self._word() for _ in range(int(self.rng.integers(0, 4)))]
        after = [self._word() for _ in range(int(self.rng.integers(0, 4)))]
        return " ".join([*before, asked, *after]), action

    def _past(self) -> str:
        element = f"{self._phrase()} [{int(self.rng.integers(1, 40))}]"
        if self.rng.random() < 0.2:
            return show("Search", argument=self._phrase(), element=element)
        return show("Click", element=element)

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
