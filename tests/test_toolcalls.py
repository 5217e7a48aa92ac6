"""Calls of tools in sampled text: what is one, what stays words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents.proxy.toolcalls import parse
from turngym.envs import ToolCall


def block(name: object, arguments: object) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
CALLS = st.lists(st.tuples(st.text(min_size=1), st.dictionaries(st.text(), VALUES, max_size=3)), max_size=3)


@given(calls=CALLS, words=st.text("ab \n"))
def test_what_is_written_in_the_form_is_read_back(calls: list[tuple[str, dict[str, Any]]], words: str) -> None:
    text = words + "\n".join(block(name, arguments) for name, arguments in calls)
    whole = [c for c in calls if "</tool_call>" not in json.dumps(c)]
    content, found = parse(text, "c")
    if len(whole) == len(calls):
        assert [(c.name, dict(c.arguments)) for c in found] == calls
        assert [c.id for c in found] == [f"c{i}" for i in range(len(calls))]
        assert content == (words.strip() if calls else words)


@given(text=st.text('<tool_cal>/{}" :,\nnameargs1'))
def test_nothing_that_can_be_sampled_is_an_error_and_no_words_are_lost_without_a_call(text: str) -> None:
    content, calls = parse(text, "c")
    assert calls or content == text


WRONG = [
    "<tool_call>[1]</tool_call>",
    '<tool_call>{"arguments": {}}</tool_call>',
    '<tool_call>{"name": "", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "a", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "a", "arguments": {"x": NaN}}</tool_call>',
    '<tool_call>{"name": "a", "arguments": {"x": 1e999}}</tool_call>',
]


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_parsed_stays_content_beside_what_can(text: str) -> None:
    assert parse(f" {text} ", "c") == (f" {text} ", ())
    assert parse(text + block("a", {"x": 1}), "c") == (text, (ToolCall("c0", "a", (("x", 1),)),))


@pytest.mark.parametrize("text", ["<tool_call>{", '<tool_call>{"name": "a", "arguments": {}}'])
def test_a_call_without_an_end_stays_content(text: str) -> None:
    assert parse(text, "c") == (text, ())


def test_arguments_have_one_order_and_may_be_left_out() -> None:
    first, second = parse(block("a", {"x": 1, "b": 2}), "c"), parse(block("a", {"b": 2, "x": 1}), "c")
    assert first == second
    assert parse('<tool_call>{"name": "a"}</tool_call>', "c") == ("", (ToolCall("c0", "a"),))
