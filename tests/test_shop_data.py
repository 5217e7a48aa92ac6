"""What shops sell: the same for the same seed, and never the same name in two splits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web.shop.data import (
    ADDRESSES,
    DEPARTMENTS,
    GOAL_WORDS,
    LABELS,
    STARS,
    WORDS_PER_SHOP,
    grow,
)
from turngym.envs.web.words import ADJECTIVES, NOUNS, SPLITS, Split, pairs

SEEDS, SPLIT = st.integers(0, 2**63), st.sampled_from(SPLITS)
OF_NAME = {
    f"{ADJECTIVES[a]} {NOUNS[n]}": split
    for split in SPLITS
    for a, n in pairs(range(len(ADJECTIVES)), range(len(NOUNS)), split).tolist()
}


@given(seed=SEEDS, split=SPLIT)
def test_a_shop_sells_names_of_its_split_alone(seed: int, split: Split) -> None:
    stock = grow(np.random.default_rng(seed), split)
    assert {OF_NAME[p.name] for p in stock.products} == {split}


@given(seed=SEEDS, split=SPLIT)
def test_a_shop_is_well_formed(seed: int, split: Split) -> None:
    stock = grow(np.random.default_rng(seed), split)
    assert [p.id for p in stock.products] == list(range(1, 31))
    assert len({p.name for p in stock.products}) == 30
    assert len(set(stock.departments)) == 6 and set(stock.departments) <= set(DEPARTMENTS)
    for department in stock.departments:
        assert len([p for p in stock.products if p.department == department]) == 5
    assert all(1 <= p.price <= 99 and type(p.price) is int and p.stars in STARS for p in stock.products)


@given(seed=SEEDS, split=SPLIT)
def test_the_same_seed_grows_the_same_shop(seed: int, split: Split) -> None:
    assert grow(np.random.default_rng(seed), split) == grow(np.random.default_rng(seed), split)


def test_other_seeds_grow_other_shops() -> None:
    assert len({grow(np.random.default_rng(seed), "train") for seed in range(50)}) == 50


def test_every_split_has_names_enough_over_many_seeds() -> None:
    fewest = 10_000
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        rng.permutation(len(DEPARTMENTS))
        adjectives = rng.permutation(len(ADJECTIVES))[:WORDS_PER_SHOP]
        nouns = rng.permutation(len(NOUNS))[:WORDS_PER_SHOP]
        fewest = min(fewest, *(len(pairs(adjectives, nouns, split)) for split in SPLITS))
    assert fewest >= 40


def test_words_are_plain_and_name_one_thing() -> None:
    groups = (ADJECTIVES, NOUNS, DEPARTMENTS, STARS, ADDRESSES, LABELS, GOAL_WORDS)
    assert all(word.isascii() and word.isalpha() and word.islower() for group in groups for word in group)
    assert all(len(set(group)) == len(group) for group in groups[:5])
    named = [*ADJECTIVES, *NOUNS, *DEPARTMENTS, *ADDRESSES]
    assert len(set(named)) == len(named)
    assert not {"search box", "add item", "save item", "write review", "place order", "check out"} & set(OF_NAME)
