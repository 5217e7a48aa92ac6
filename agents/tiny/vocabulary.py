"""What the embedded policy reads in one token: words of generated pages, small integers, element ids, the grammar.

A word, integer or id carries the space before it, and the tokenizer puts a space where a text, a line, a quoted
value or a thought begins, so that every word is one token wherever it stands and copying it is copying one id.
"""

from collections.abc import Iterable

from ...envs.web.forum import data as forum
from ...envs.web.grammar import ON_PAGE
from ...envs.web.shop import data as shop
from ...envs.web.words import ADJECTIVES, NOUNS
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
    "<think>",
)
GLUE = ('", element="', '")', "\n", "</think><answer>", "</answer>")
PATHS = ("/", "/cart", "/checkout", "/department", "/product", "/search", "/board", "/topic", "/user")
NAMED = (*shop.DEPARTMENTS, *forum.BOARDS, *forum.USERS, *range(1, 41))  # what a path may end with
SUBPATHS = ("/review", "/write", *(f"/{name}" for name in NAMED))
BEGINNINGS = ('="', "<think>", "<answer>")  # after which a value begins
INTEGERS = range(-20, 100)
IDS = range(100)


def words() -> tuple[str, ...]:
    """All whole words, each once, in a fixed order."""
    groups: tuple[Iterable[str], ...] = (
        *(shop.LABELS, shop.GOAL_WORDS, shop.STARS, shop.ADDRESSES, shop.DEPARTMENTS, ADJECTIVES, NOUNS),
        *(forum.LABELS, forum.GOAL_WORDS, forum.KINDS, forum.BOARDS, forum.USERS, forum.VERBS),
    )
    return tuple(dict.fromkeys(word for group in groups for word in group))


def spell(text: str) -> str:
    """``text`` with a space where a value begins, unless that is where it ends."""
    for beginning in BEGINNINGS:
        text = text.replace(beginning, f"{beginning} ")
    return text.removesuffix(" ")


def entries() -> tuple[str, ...]:
    """Everything that is one token beside the bytes, with the space before it where it has one."""
    spaced = (*FRAGMENTS, PLACEHOLDER, *PATHS, *words(), *map(str, INTEGERS), *(f"[{i}]" for i in IDS))
    return (*(" " + spell(text) for text in spaced), *map(spell, GLUE), *SUBPATHS)
