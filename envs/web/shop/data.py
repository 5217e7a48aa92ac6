"""What a shop sells, grown from a seed: words, products, and the parts of the year's stock that a split may see."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

ADJECTIVES = tuple(
    """amber antique blue bold brass bright brown ceramic classic clear compact copper cozy curved dark deep dotted
    elegant fancy flat fluffy fresh gentle glossy golden gray green heavy ivory large light linen long lunar marble
    matte mellow mini modern narrow navy oak olive orange pale pink plain polished purple quiet red round rustic sandy
    sharp silver simple slim small smooth soft solid square steel striped sturdy tall teal thick tiny velvet violet
    warm white wide wooden woven yellow""".split()
)
NOUNS = tuple(
    """apron backpack ball basin basket bench blanket blender bottle bowl box broom brush bucket cabinet candle canvas
    carpet chair clock coat comb couch crate cup curtain cushion desk dish doll drawer drum easel fan flask folder fork
    frame glove guitar hammer hat helmet jacket jar kettle kite knife ladder lamp lantern lock mat mirror mop mug napkin
    notebook oven pan pen piano pillow pitcher plate pot quilt racket rake robe rope rug saddle sandal scarf shelf shirt
    shoe shovel skate soap sofa spade spoon stool stove table teapot tent tie towel tray trunk umbrella vase wallet
    watch whistle wrench""".split()
)
DEPARTMENTS = tuple("attic bath camping fashion garden hobby kitchen laundry music office sport travel".split())
STARS = ("one", "two", "three", "four", "five")
ADDRESSES = ("cabin", "farm", "studio", "parents")
LABELS = tuple(
    """shop home cart search box add item save write review stars send check out address place order choose price
    rated holds nothing saved reviewed ordered please to is of at results empty remove found done missing not page
    error tabs this parts dropped there element on""".split()
)
GOAL_WORDS = tuple("tell the price of open from put in and with stars review order to find save".split())

DEPARTMENT_COUNT, DEPARTMENT_SIZE, WORDS_PER_SHOP = 6, 5, 20


@dataclass(frozen=True, slots=True)
class Product:
    """One thing on sale: ``price`` in whole coins from 1 to 99, ``stars`` as a word."""

    id: int
    name: str
    department: str
    price: int
    stars: str


@dataclass(frozen=True, slots=True)
class Stock:
    """A shop's content: departments in the order shown, products by ascending id."""

    departments: tuple[str, ...]
    products: tuple[Product, ...]


def split_of(adjective: int, noun: int) -> Split:
    """The split whose shops may sell this pair of words: of five pairs, three train, one validates, one tests."""
    order: tuple[Split, ...] = ("train", "train", "train", "validation", "test")
    return order[(adjective + 2 * noun) % 5]


def grow(rng: np.random.Generator, split: Split) -> Stock:
    """A shop of 6 departments with 5 products each; names are those of ``split`` alone.

    Names come from 20 adjectives and 20 nouns, so that products of one shop share words.
    """
    count = DEPARTMENT_COUNT * DEPARTMENT_SIZE
    departments = tuple(DEPARTMENTS[i] for i in rng.permutation(len(DEPARTMENTS))[:DEPARTMENT_COUNT])
    adjectives = rng.permutation(len(ADJECTIVES))[:WORDS_PER_SHOP]
    nouns = rng.permutation(len(NOUNS))[:WORDS_PER_SHOP]
    names = [f"{ADJECTIVES[a]} {NOUNS[n]}" for a in adjectives for n in nouns if split_of(a, n) == split]
    chosen = rng.permutation(len(names))[:count]
    prices, stars = rng.integers(1, 100, count), rng.integers(0, len(STARS), count)
    shelves = rng.permutation(count) % DEPARTMENT_COUNT
    products = tuple(
        Product(i + 1, names[chosen[i]], departments[shelves[i]], int(prices[i]), STARS[stars[i]]) for i in range(count)
    )
    return Stock(departments, products)
