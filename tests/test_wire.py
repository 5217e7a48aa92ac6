"""The interface of the OpenAI kind: what is honoured, what is ignored knowingly, what is refused by name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents.proxy.wire import Ask, Rejected, answer, chunks, message, read, reward
from turngym.envs import Message, ToolCall

HELLO = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}


def ask(**more: Any) -> Ask:
    return read({"model": "policy", "messages": [HELLO]} | more)


def test_a_plain_request() -> None:
    got = ask()
    assert got.messages == (Message("user", "hello"),) and got.model == "policy"
    assert (got.tools, got.temperature, got.max_tokens, got.seed, got.stream) == ((), None, None, None, False)


def test_what_is_honoured() -> None:
    got = ask(tools=[TOOL], temperature=0.5, max_tokens=7, seed=3, stream=True, stream_options={"include_usage": True})
    assert (got.tools, got.temperature, got.max_tokens, got.seed) == ((TOOL,), 0.5, 7, 3)
    assert got.stream and got.usage
    assert ask(max_tokens=7, max_completion_tokens=9).max_tokens == 9
    assert ask(tools=[TOOL], tool_choice="none").tools == ()


def test_what_changes_nothing_is_ignored_and_null_is_as_if_left_out() -> None:
    ask(user="me", metadata={"a": "b"}, store=True, parallel_tool_calls=False, service_tier="auto")
    ask(n=1, top_p=1.0, frequency_penalty=0, logit_bias={}, logprobs=False, response_format={"type": "text"}, stop=[])
    assert ask(temperature=None, stop=None, top_p=None, tools=None, anything=None).temperature is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2), ("top_p", 0.9), ("frequency_penalty", 0.1), ("presence_penalty", 1), ("logit_bias", {"1": 2}),
        ("logprobs", True), ("top_logprobs", 3), ("response_format", {"type": "json_object"}), ("stop", ["\n"]),
        ("stop", "a"), ("reasoning_effort", "low"), ("functions", []), ("top_k", 5), ("no_such", 1),
        ("tool_choice", "required"), ("tool_choice", {"type": "function"}), ("tools", [1]), ("tools", {}),
        ("tools", [{"type": "function", "function": {}}]), ("temperature", "hot"), ("temperature", True),
        ("max_tokens", 0), ("max_tokens", 1.5), ("seed", "a"), ("stream", 1), ("messages", []), ("messages", "hi"),
    ],
)  # fmt: skip
def test_what_would_change_the_sample_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(Rejected) as caught:
        ask(**{name: value})
    assert caught.value.param == name and name in str(caught.value) and caught.value.status == 400
    assert caught.value.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [None, [], 1, "a", {}])
def test_a_body_is_an_object_with_messages(body: Any) -> None:
    with pytest.raises(Rejected):
        read(body)


def test_messages() -> None:
    assert message({"role": "developer", "content": "x"}, "m") == Message("system", "x")
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert message({"role": "user", "content": parts, "name": "me"}, "m") == Message("user", "ab")
    called = message({"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None}, "m")
    assert called == Message("assistant", "", (ToolCall("c1", "look", (("at", 1),)),))
    assert message({"role": "tool", "content": "y", "tool_call_id": "c1"}, "m") == Message("tool", "y", (), "c1")


@pytest.mark.parametrize(
    "said",
    [
        1, {}, {"role": "king", "content": ""}, {"role": ["user"], "content": ""}, {"role": "user", "content": 3},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "user", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "no id"},
        {"role": "assistant", "tool_calls": [{"id": "c"}]}, {"role": "assistant", "tool_calls": {"id": "c"}},
        {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "a", "arguments": "no JSON"}}]},
        {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "a", "arguments": "[]"}}]},
    ],
)  # fmt: skip
def test_messages_that_cannot_be_read_are_refused_with_their_place(said: Any) -> None:
    with pytest.raises(Rejected) as caught:
        message(said, "messages[4]")
    assert str(caught.value.param).startswith("messages[4]")


REPLIES = st.builds(
    Message,
    st.just("assistant"),
    st.text(),
    st.lists(
        st.builds(
            ToolCall, st.text(min_size=1), st.text(min_size=1), st.dictionaries(st.text(), st.integers()).map(
                lambda d: tuple(sorted(d.items()))
            ),
        ),
        max_size=2,
    ).map(tuple),
)  # fmt: skip


@given(reply=REPLIES)
def test_a_reply_sent_back_is_the_reply(reply: Message) -> None:
    said = json.loads(json.dumps(answer(ask(), reply, "stop", 0, 1, 2)))["choices"][0]["message"]
    assert message(said, "m") == reply


@given(reply=REPLIES, usage=st.booleans())
def test_the_parts_of_a_stream_make_the_reply(reply: Message, usage: bool) -> None:
    content, calls, ends = "", list[Any](), list[str]()
    parts = list(chunks(ask(stream=True, stream_options={"include_usage": usage}), reply, "stop", 0, 1, 2))
    for part in parts:
        for choice in part["choices"]:
            content += choice["delta"].get("content") or ""
            calls += choice["delta"].get("tool_calls", [])
            ends += [choice["finish_reason"]] if choice["finish_reason"] else []
    assert message({"role": "assistant", "content": content, "tool_calls": calls}, "m") == reply
    assert ends == ["stop"] and ("usage" in parts[-1]) == usage


def test_rewards_are_finite_numbers() -> None:
    assert reward({"reward": 1}, needed=True) == 1.0 and reward({}, needed=False) == 0.0
    for wrong in ({}, {"reward": "a"}, {"reward": float("nan")}, {"reward": True}):
        with pytest.raises(Rejected, match="reward must be"):
            reward(wrong, needed=True)
