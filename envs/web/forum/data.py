"""What a forum holds, grown from a seed: users, boards, topics and their comments, each split with its own topics."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..words import ADJECTIVES, NOUNS, Split, pairs

USERS = tuple(
    "ada ben carla dario elena felix greta hugo ines jonas kira leo mona nils olga pablo quinn rosa sven tara".split()
)
BOARDS = tuple("books cooking cycling films history jokes news pets science space weather yoga".split())
VERBS = tuple(
    """build buy clean compare copy draw fix fold gift hang hide keep lend move pack paint repair sell sew share sort
    store swap wash""".split()
)
KINDS = ("question", "story", "advice", "warning")  # of a post
LABELS = tuple(
    """forum board topic by votes vote up down says comment comments text join leave joined voted follow following
    user karma kind title new here post send posted commented write topics""".split()
)
GOAL_WORDS = tuple("for the author of on as what who advises then think need first".split())

BOARD_COUNT, BOARD_SIZE, WORDS_PER_FORUM, COMMENTS = 6, 5, 20, 2


@dataclass(frozen=True, slots=True)
class Comment:
    """What ``user`` advises; ``product`` is its number in the shop of the same episode, if there is one."""

    user: str
    text: str
    product: int | None = None


@dataclass(frozen=True, slots=True)
class Topic:
    """One thread: ``votes`` from 1 to 89, so that one more stays a small integer."""

    id: int
    title: str
    board: str
    author: str
    votes: int
    comments: tuple[Comment, ...]


@dataclass(frozen=True, slots=True)
class Talk:
    """A forum's content: boards in the order shown, topics by ascending id, each user's karma."""

    boards: tuple[str, ...]
    topics: tuple[Topic, ...]
    karma: tuple[tuple[str, int], ...]
    unwritten: tuple[str, ...] = ()  # titles of the same split and words that no topic has


def grow(rng: np.random.Generator, split: Split, products: Sequence[tuple[int, str]] = ()) -> Talk:
    """A forum of 6 boards with 5 topics each; titles (a verb and a noun) are those of ``split`` alone.

    Two users comment on a topic and advise something: each another of ``products`` (number, name) where there are any,
    else a thing that nobody sells.
    """
    count = BOARD_COUNT * BOARD_SIZE
    boards = tuple(BOARDS[i] for i in rng.permutation(len(BOARDS))[:BOARD_COUNT])
    verbs = rng.permutation(len(VERBS))[:WORDS_PER_FORUM]
    nouns = rng.permutation(len(NOUNS))[:WORDS_PER_FORUM]
    names = pairs(verbs, nouns, split)
    titles = [f"{VERBS[v]} {NOUNS[n]}" for v, n in names[rng.permutation(len(names))].tolist()]
    shelves = rng.permutation(count) % BOARD_COUNT
    votes = rng.integers(1, 90, count)
    topics = list[Topic]()
    members, things = _distinct(rng, count, len(USERS), 1 + COMMENTS), _things(rng, count, products)
    for i, (author, *others) in enumerate(members):
        comments = tuple(Comment(USERS[u], *thing) for u, thing in zip(others, things[i], strict=True))
        topics.append(Topic(i + 1, titles[i], boards[shelves[i]], USERS[author], int(votes[i]), comments))
    karma = tuple((user, int(k)) for user, k in zip(USERS, rng.integers(1, 100, len(USERS)), strict=True))
    return Talk(boards, tuple(topics), karma, tuple(titles[count:]))


def phrase(rng: np.random.Generator) -> str:
    """Two words for a text of one's own."""
    return f"{ADJECTIVES[int(rng.integers(len(ADJECTIVES)))]} {NOUNS[int(rng.integers(len(NOUNS)))]}"


def _things(
    rng: np.random.Generator, count: int, products: Sequence[tuple[int, str]]
) -> list[list[tuple[str, int | None]]]:
    """What the comments on each of ``count`` topics advise."""
    if not products:
        drawn = rng.integers(np.tile([len(ADJECTIVES), len(NOUNS)], (count, COMMENTS, 1))).tolist()
        return [[(f"{ADJECTIVES[a]} {NOUNS[n]}", None) for a, n in row] for row in drawn]
    return [[products[i][::-1] for i in row] for row in _distinct(rng, count, len(products), COMMENTS)]


def _distinct(rng: np.random.Generator, rows: int, of: int, count: int) -> list[list[int]]:
    """In each row ``count`` different numbers below ``of``."""
    drawn = rng.permuted(np.tile(np.arange(of), (rows, 1)), axis=1)[:, :count]
    found: list[list[int]] = drawn.tolist()
    return found
