"""Words that sites share: every pair of them belongs to one split."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web.words import ADJECTIVES, NOUNS, SPLITS, Split, pairs

NUMBERS = st.lists(st.integers(0, 200), max_size=25)


def naive(first: Sequence[int], second: Sequence[int], split: Split) -> list[list[int]]:
    """Pairs by the rule: of five next to each other three train, one validates, one tests."""
    of = ("train", "train", "train", "validation", "test")
    return [[a, b] for a in first for b in second if of[(a + 2 * b) % 5] == split]


@given(first=NUMBERS, second=NUMBERS, split=st.sampled_from(SPLITS))
def test_pairs_are_those_of_the_rule_in_order(first: list[int], second: list[int], split: Split) -> None:
    found = pairs(first, second, split)
    assert found.shape == (len(found), 2) and found.tolist() == naive(first, second, split)
    arrays = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
    assert pairs(*arrays, split).tolist() == found.tolist()


@given(first=NUMBERS, second=NUMBERS)
def test_every_pair_belongs_to_one_split(first: list[int], second: list[int]) -> None:
    dealt = [(a, b) for split in SPLITS for a, b in pairs(first, second, split).tolist()]
    assert sorted(dealt) == sorted((a, b) for a in first for b in second)


def test_a_fifth_of_all_names_goes_to_each_held_out_split() -> None:
    count = len(ADJECTIVES) * len(NOUNS)
    shares = {split: len(pairs(range(len(ADJECTIVES)), range(len(NOUNS)), split)) / count for split in SPLITS}
    assert shares == pytest.approx({"train": 0.6, "validation": 0.2, "test": 0.2}, abs=0.01)


@pytest.mark.parametrize("split", SPLITS)
def test_every_word_is_used_in_every_split(split: Split) -> None:
    found = pairs(range(len(ADJECTIVES)), range(len(NOUNS)), split)
    assert [len(np.unique(column)) for column in found.T] == [len(ADJECTIVES), len(NOUNS)]


def test_words_are_plain_and_name_one_thing() -> None:
    words = (*ADJECTIVES, *NOUNS)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    assert len(set(words)) == len(words)
