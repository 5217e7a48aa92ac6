"""What forums hold: the same for the same seed, and never the same title in two splits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web.forum.data import (
    BOARDS,
    GOAL_WORDS,
    KINDS,
    LABELS,
    USERS,
    VERBS,
    WORDS_PER_FORUM,
    grow,
    phrase,
)
from turngym.envs.web.forum.store import VISITOR
from turngym.envs.web.shop.data import ADDRESSES, DEPARTMENTS, STARS
from turngym.envs.web.words import ADJECTIVES, NOUNS, SPLITS, Split, pairs

SEEDS, SPLIT = st.integers(0, 2**63), st.sampled_from(SPLITS)
PRODUCTS = [(i, f"thing {i}") for i in range(1, 31)]
OF_TITLE = {
    f"{VERBS[v]} {NOUNS[n]}": split
    for split in SPLITS
    for v, n in pairs(range(len(VERBS)), range(len(NOUNS)), split).tolist()
}


@given(seed=SEEDS, split=SPLIT)
def test_a_forum_has_titles_of_its_split_alone(seed: int, split: Split) -> None:
    talk = grow(np.random.default_rng(seed), split)
    titles = [t.title for t in talk.topics]
    assert {OF_TITLE[title] for title in (*titles, *talk.unwritten)} == {split}
    assert len({*titles, *talk.unwritten}) == len(titles) + len(talk.unwritten)


def test_every_verb_and_noun_is_a_title_of_one_split() -> None:
    assert len(OF_TITLE) == len(VERBS) * len(NOUNS)
    for split in SPLITS:
        words = {word for title, of in OF_TITLE.items() if of == split for word in title.split()}
        assert words == {*VERBS, *NOUNS}


@given(seed=SEEDS, split=SPLIT, products=st.sampled_from([[], PRODUCTS, PRODUCTS[:2]]))
def test_a_forum_is_well_formed(seed: int, split: Split, products: list[tuple[int, str]]) -> None:
    talk = grow(np.random.default_rng(seed), split, products)
    assert [t.id for t in talk.topics] == list(range(1, 31))
    assert len(set(talk.boards)) == 6 and set(talk.boards) <= set(BOARDS)
    for board in talk.boards:
        assert len([t for t in talk.topics if t.board == board]) == 5
    for topic in talk.topics:
        assert 1 <= topic.votes <= 89 and type(topic.votes) is int
        names = [topic.author, *(c.user for c in topic.comments)]
        assert len(names) == len(set(names)) == 3 and set(names) <= set(USERS)
    assert [user for user, _ in talk.karma] == list(USERS)
    assert all(1 <= karma <= 99 and type(karma) is int for _, karma in talk.karma)


@given(seed=SEEDS, split=SPLIT)
def test_the_comments_on_a_topic_advise_different_products(seed: int, split: Split) -> None:
    for topic in grow(np.random.default_rng(seed), split, PRODUCTS).topics:
        assert all((c.product, c.text) in PRODUCTS for c in topic.comments)
        assert len({c.product for c in topic.comments}) == 2


def test_without_a_shop_comments_advise_what_nobody_sells() -> None:
    comments = [c for t in grow(np.random.default_rng(0), "train").topics for c in t.comments]
    assert {c.product for c in comments} == {None} and len({c.text for c in comments}) > 50
    rng = np.random.default_rng(1)
    for text in (*(c.text for c in comments), *(phrase(rng) for _ in range(50))):
        adjective, noun = text.split()
        assert adjective in ADJECTIVES and noun in NOUNS


@given(seed=SEEDS, split=SPLIT, products=st.sampled_from([[], PRODUCTS]))
def test_the_same_seed_grows_the_same_forum(seed: int, split: Split, products: list[tuple[int, str]]) -> None:
    assert grow(np.random.default_rng(seed), split, products) == grow(np.random.default_rng(seed), split, products)


def test_other_seeds_grow_other_forums() -> None:
    assert len({grow(np.random.default_rng(seed), "train") for seed in range(50)}) == 50


def test_every_split_has_titles_enough_over_many_seeds() -> None:
    for split in SPLITS:
        for seed in range(1000):
            rng = np.random.default_rng(seed)
            verbs, nouns = (rng.permutation(len(words))[:WORDS_PER_FORUM] for words in (VERBS, NOUNS))
            assert len(pairs(verbs, nouns, split)) >= 50  # 30 topics, and some that are unwritten


def test_words_are_plain_and_name_one_thing() -> None:
    groups = (USERS, BOARDS, VERBS, KINDS, LABELS, GOAL_WORDS)
    assert all(word.isascii() and word.isalpha() and word.islower() for group in groups for word in group)
    assert all(len(set(group)) == len(group) for group in groups)
    named = [*USERS, *BOARDS, *VERBS, *NOUNS, *ADJECTIVES, *DEPARTMENTS, *ADDRESSES, *STARS, *KINDS]
    assert len(set(named)) == len(named)
    assert VISITOR in LABELS and VISITOR not in USERS
    buttons = {"vote up", "vote down", "write post", "send post", "send comment", "search box"}
    assert not buttons & set(OF_TITLE)
