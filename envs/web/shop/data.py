"""What a shop sells, grown from a seed: words, products, and the parts of the year's stock that a split may see."""

from dataclasses import dataclass

import numpy as np

from ..words import ADJECTIVES, NOUNS, Split, pairs

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


def grow(rng: np.random.Generator, split: Split) -> Stock:
    """A shop of 6 departments with 5 products each; names are those of ``split`` alone.

    Names come from 20 adjectives and 20 nouns, so that products of one shop share words.
    """
    count = DEPARTMENT_COUNT * DEPARTMENT_SIZE
    departments = tuple(DEPARTMENTS[i] for i in rng.permutation(len(DEPARTMENTS))[:DEPARTMENT_COUNT])
    adjectives = rng.permutation(len(ADJECTIVES))[:WORDS_PER_SHOP]
    nouns = rng.permutation(len(NOUNS))[:WORDS_PER_SHOP]
    names = pairs(adjectives, nouns, split)
    chosen = [f"{ADJECTIVES[a]} {NOUNS[n]}" for a, n in names[rng.permutation(len(names))[:count]].tolist()]
    prices, stars = rng.integers(1, 100, count), rng.integers(0, len(STARS), count)
    shelves = rng.permutation(count) % DEPARTMENT_COUNT
    products = tuple(
        Product(i + 1, chosen[i], departments[shelves[i]], int(prices[i]), STARS[stars[i]]) for i in range(count)
    )
    return Stock(departments, products)
