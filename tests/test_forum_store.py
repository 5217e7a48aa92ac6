"""The forum's database: what a visitor changes, and nothing else, is its state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web.forum.data import Comment, Talk, Topic, grow
from turngym.envs.web.forum.store import VISITOR, WORTH, State, Store

TALK = Talk(
    ("books", "films"),
    (
        Topic(1, "sell mug", "books", "ada", 7, (Comment("ben", "red chair", 5), Comment("leo", "blue pan"))),
        Topic(2, "fold mug", "films", "ben", 1, ()),
        Topic(3, "sell chair", "books", "ben", 89, ()),
    ),
    (("ada", 5), ("ben", 60)),
)


def test_it_holds_its_talk() -> None:
    store = Store(TALK)
    assert store.boards() == ["books", "films"]
    assert store.titles("books") == [(1, "sell mug"), (3, "sell chair")]
    assert store.titles("jokes") == []
    assert [store.topic(i) for i in (1, 0, 4, 10**30)] == [TALK.topics[0], None, None, None]
    assert [store.karma(user) for user in ("ben", "leo", VISITOR, "")] == [60, None, None, None]
    store.close()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_grown_talk_is_held_whole(split: str) -> None:
    talk = grow(np.random.default_rng(1), split, [(i, f"thing {i}") for i in range(9)])  # type: ignore[arg-type]
    store = Store(talk)
    assert store.boards() == list(talk.boards)
    held = sorted(id for board in talk.boards for id, _ in store.titles(board))
    assert [store.topic(id) for id in held] == list(talk.topics)
    assert all(store.karma(user) == karma for user, karma in talk.karma)
    store.close()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("sell mug", [1, 2, 3]),
        ("  SELL   Chair ", [3, 1]),
        ("mug", [1, 2]),
        ("se", []),
        ("", []),
        ("'; DROP TABLE topic; --", []),
        ("% _ mug", [1, 2]),
    ],
)
def test_search_ranks_by_shared_words(query: str, found: list[int]) -> None:
    store = Store(TALK)
    assert [id for id, _ in store.search(query)] == found
    assert [id for id, _ in store.search(query, limit=1)] == found[:1]
    store.close()


def test_a_topic_is_first_among_those_found_by_its_title() -> None:
    talk = grow(np.random.default_rng(2), "test")
    store = Store(talk)
    for topic in talk.topics:
        found = store.search(topic.title)
        assert found[0] == (topic.id, topic.title) and len(found) <= 6
    store.post("books", "Sell  a Ship", "story")
    assert (31, "Sell  a Ship") in store.search("ship")
    store.close()


def test_nothing_is_changed_at_first() -> None:
    store = Store(TALK)
    assert store.state() == State() and store.status() == []
    assert not store.joined("books") and not store.follows("ada")
    store.close()


def test_a_vote_counts_once_and_the_other_way_takes_its_place() -> None:
    store, votes = Store(TALK), list[int]()
    for way in ("up", "up", "down", "down", "up"):
        store.vote(1, way)  # type: ignore[arg-type]
        topic = store.topic(1)
        assert topic is not None
        votes.append(topic.votes)
    assert votes == [8, 8, 6, 6, 8] and store.state() == State(votes=((1, 1),))
    store.vote(3, "down")
    store.vote(2, "up")
    store.vote(1, "down")
    assert store.state() == State(votes=((1, -1), (2, 1), (3, -1)))
    assert store.status() == [("voted", ["down sell mug", "down sell chair", "up fold mug"])]
    store.close()


def test_joining_and_following_can_be_taken_back() -> None:
    store = Store(TALK)
    for name in ("films", "books", "films"):
        store.join(name)
    for name in ("ben", "ada", "ben"):
        store.follow(name)
    assert store.state() == State(joined=("books", "films"), following=("ada", "ben"))
    assert store.status() == [("joined", ["films", "books"]), ("following", ["ben", "ada"])]
    assert store.joined("films") and store.follows("ben")
    for name in ("films", "films", "jokes"):
        store.leave(name)
    store.unfollow("ada")
    assert store.state() == State(joined=("books",), following=("ben",))
    store.close()


def test_what_the_visitor_writes_is_signed_and_comes_last() -> None:
    store = Store(TALK)
    store.comment(1, "tall lamp")
    store.post("books", "lend pan", "story")
    assert store.titles("books")[-1] == (4, "lend pan")
    assert store.topic(4) == Topic(4, "lend pan", "books", VISITOR, 1, ())
    topic = store.topic(1)
    assert topic is not None and topic.comments == (*TALK.topics[0].comments, Comment(VISITOR, "tall lamp"))
    assert store.state() == State(comments=((1, "tall lamp"),), posts=(("books", "lend pan", "story"),))
    assert store.status() == [("commented", ["sell mug tall lamp"]), ("posted", ["lend pan story books"])]
    store.vote(4, "up")
    assert store.state().votes == ((4, 1),)
    store.close()


WAYS = list(WORTH)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["vote", "join", "leave", "follow", "unfollow", "comment", "post"]), st.integers(0, 2))
)


@given(changes=CHANGES)
def test_any_changes_agree_with_a_model_in_python(changes: list[tuple[str, int]]) -> None:
    store, votes, joined, followed = Store(TALK), dict[int, int](), set[str](), set[str]()
    comments, posts = list[tuple[int, str]](), list[tuple[str, str, str]]()
    for what, which in changes:
        name, text = ("books", "films", "jokes")[which], ("b", "a", "c")[which]
        if what == "vote":
            way = WAYS[len(votes) % 2]
            store.vote(which + 1, way)
            votes[which + 1] = WORTH[way]
        elif what == "comment":
            store.comment(which + 1, text)
            comments.append((which + 1, text))
        elif what == "post":
            store.post(name, text, "story")
            posts.append((name, text, "story"))
        else:
            getattr(store, what)(name)
            names = joined if what in ("join", "leave") else followed
            (names.add if what in ("join", "follow") else names.discard)(name)
    wanted = State(*(tuple(sorted(part)) for part in (joined, votes.items(), comments, posts, followed)))
    assert store.state() == wanted
    said = {label: len(names) for label, names in store.status()}
    counts = {
        "joined": len(joined),
        "voted": len(votes),
        "commented": len(comments),
        "posted": len(posts),
        "following": len(followed),
    }
    assert said == {label: count for label, count in counts.items() if count}
    store.close()


def test_forums_share_nothing() -> None:
    one, two = Store(TALK), Store(TALK)
    one.join("books")
    assert two.state() == State()
    one.close()
    two.vote(2, "down")
    assert two.state() == State(votes=((2, -1),))
    two.close()
