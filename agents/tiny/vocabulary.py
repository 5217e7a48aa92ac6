"""What the embedded policy reads in one token: words of generated pages, small integers, element ids, the grammar.

A word, integer or id carries the space before it, and the tokenizer puts a space where a text, a line or a quoted
value begins, so that every word is one token wherever it stands and copying it is copying one id.
"""

from collections.abc import Iterable

from ...envs.web.grammar import ON_PAGE
from ...envs.web.shop.data import (
    ADDRESSES,
    ADJECTIVES,
    DEPARTMENTS,
    GOAL_WORDS,
    LABELS,
    NOUNS,
    STARS,
)
from ..memory import PLACEHOLDER

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIALS = (PAD, SYSTEM, USER, ASSISTANT, END)

# as the tokenizer sees them: see ``spell`` for the spaces that it adds
FRAGMENTS = (
    *(f'do(action="{name}", element="' for name in ("Click", "Right Click", "Hover")),
    *(f'do(action="{name}", argument="' for name in ("Type", "Search", "Select Dropdown Option")),
    *(f'do(action="{name}")' for name in ON_PAGE),
    'do(action="Switch Tab", argument="',
    'exit(message="',
    "go_backward()",
    "go_forward()",
)
GLUE = ('", element="', '")', "\n")
PATHS = ("/", "/cart", "/checkout", "/department", "/product", "/search")
SUBPATHS = ("/review", *(f"/{name}" for name in DEPARTMENTS))
INTEGERS = range(-20, 100)
IDS = range(100)


def words() -> tuple[str, ...]:
    """All whole words, each once, in a fixed order."""
    groups: tuple[Iterable[str], ...] = (LABELS, GOAL_WORDS, STARS, ADDRESSES, DEPARTMENTS, ADJECTIVES, NOUNS)
    return tuple(dict.fromkeys(word for group in groups for word in group))


def spell(text: str) -> str:
    """``text`` with a space where a quoted value begins, unless that is where it ends."""
    return text.replace('="', '=" ').removesuffix(" ")


def entries() -> tuple[str, ...]:
    """Everything that is one token beside the bytes, with the space before it where it has one."""
    spaced = (*FRAGMENTS, PLACEHOLDER, *PATHS, *words(), *map(str, INTEGERS), *(f"[{i}]" for i in IDS))
    return (*(" " + spell(text) for text in spaced), *map(spell, GLUE), *SUBPATHS)
