"""Messages are values, and their spaces behave as Gymnasium's do."""

import pickle
from dataclasses import FrozenInstanceError

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs import Chat, Image, Message, Reply, Text, ToolCall, user

MIXED = Message("user", (Text("left "), Image(b"png 1"), Text("right"), Image(b"png 2")))


def test_text_and_images_keep_their_order() -> None:
    assert MIXED.text == "left right"
    assert MIXED.images == (Image(b"png 1"), Image(b"png 2"))
    assert (Message("user", "plain").text, Message("user", "plain").images) == ("plain", ())


@pytest.mark.parametrize("value", [MIXED, Text("a"), Image(b"a"), ToolCall("1", "look", (("at", 3),))])
def test_values_are_frozen_equal_and_hashable(value: object) -> None:
    again = pickle.loads(pickle.dumps(value))
    assert again == value and again is not value and hash(again) == hash(value)
    field = type(value).__dataclass_fields__.copy().popitem()[0]  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        setattr(value, field, None)


def test_every_field_counts_for_equality() -> None:
    base = Message("user", "a", (ToolCall("1", "look"),), "2")
    others = [
        Message("system", "a", base.tool_calls, "2"),
        Message("user", "b", base.tool_calls, "2"),
        Message("user", "a", (ToolCall("1", "listen"),), "2"),
        Message("user", "a", base.tool_calls, "3"),
    ]
    assert base not in others and len({base, *others}) == 5


def test_user_is_one_user_message() -> None:
    assert user("hello") == (Message("user", "hello"),)


def test_chat_contains_tuples_of_messages_alone() -> None:
    chat = Chat()
    assert () in chat and user("a") in chat and (MIXED, Message("assistant", "b")) in chat
    assert [Message("user", "a")] not in chat and ("a",) not in chat and "a" not in chat and (1,) not in chat


def test_chats_are_equal_to_each_other_alone() -> None:
    assert Chat() == Chat() and hash(Chat()) == hash(Chat()) and repr(Chat()) == "Chat()"
    assert Chat() != Reply(["a"]) and Chat() != gym.spaces.Text(5)


def test_replies_are_equal_when_their_parts_are() -> None:
    one = Reply(["a", "b"], 10)
    assert one == Reply(("a", "b"), 10) and hash(one) == hash(Reply(("a", "b"), 10))
    assert one not in [Reply(["a"], 10), Reply(["b", "a"], 10), Reply(["a", "b"], 11), Chat(), gym.spaces.Text(5)]
    assert repr(one) == "Reply(2 examples, max_length=10)"


def test_reply_contains_strings_up_to_its_length() -> None:
    space = Reply(["a"], 3)
    assert "" in space and "abc" in space
    assert "abcd" not in space and 3 not in space and b"abc" not in space


@given(seed=st.integers(0, 2**31), examples=st.lists(st.text(max_size=5), min_size=1, max_size=5))
def test_samples_belong_and_follow_the_seed(seed: int, examples: list[str]) -> None:
    def draw() -> list[object]:
        spaces = (Chat(), Reply(examples))
        drawn = list[object]()
        for space in spaces:
            space.seed(seed)
            drawn += [space.sample() for _ in range(5)]
            assert all(s in space for s in drawn[-5:])
        return drawn

    first = draw()
    assert first == draw() and set(map(str, first[5:])) <= set(examples)


def test_other_seeds_draw_other_samples() -> None:
    chat, seen = Chat(), set()
    for seed in range(20):
        chat.seed(seed)
        seen.add(chat.sample())
    assert len(seen) > 10
