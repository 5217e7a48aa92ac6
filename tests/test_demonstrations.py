"""Demonstrations hold exactly what the policy would have read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents.chat import Prompter
from turngym.agents.memory import MEMORIES
from turngym.agents.tiny import tokenizer
from turngym.envs import UsageError
from turngym.envs.web.shop import WebShop
from turngym.trainers.demonstrations import demonstrate, lengths, number, shares


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 20), min_size=1, max_size=9), st.integers(0, 300))
def test_shares_are_half_even_and_half_in_proportion_and_add_up(turns: dict[str, int], count: int) -> None:
    dealt = shares(turns, count)
    assert sum(dealt.values()) == count
    whole = sum(turns.values())
    assert all(abs(dealt[name] - count / 2 * (n / whole + 1 / len(turns))) < 1 for name, n in turns.items())


def test_demonstrations_are_gold_and_dealt_by_shares() -> None:
    env = WebShop(instructions=False, level=(1, 2))
    prompter, memory = Prompter(tokenizer.build()), MEMORIES["compressed"]
    played = demonstrate(env, env.templates, 11, prompter, memory, seed=5)
    turns = lengths(env, env.templates, 5)
    assert {name: sum(t.task == name for t in played) for name in env.templates} == shares(turns, 11)
    assert len({t.group for t in played}) == 11 and all(t.group < 0 for t in played)
    for t in played:
        assert t.reward == 1.0 and t.source == "demonstration" and len(t.turns) == turns[t.task]
        for i, turn in enumerate(t.turns):
            (call,) = turn.action.calls
            assert call.request.ids == prompter.prompt(list(memory(t.turns[:i], turn.observation)))
            assert prompter.text(call.sample.tokens) == turn.action.text
            assert call.sample.tokens[-1] in prompter.stop


def test_a_world_without_gold_says_so() -> None:
    class Plain(WebShop):
        cheat = None  # type: ignore[assignment]

    env = Plain(level=1)
    with pytest.raises(UsageError, match="no gold actions"):
        demonstrate(env, env.templates, 3, Prompter(tokenizer.build()), MEMORIES["full"], seed=0)


def test_gold_that_earns_nothing_is_an_error() -> None:
    class Wrong(WebShop):
        def cheat(self) -> str:
            return 'exit(message="wrong")'

    env = Wrong(level=1)
    with pytest.raises(UsageError, match="earn no reward"):
        demonstrate(env, env.templates, 3, Prompter(tokenizer.build()), MEMORIES["full"], seed=0)


def test_numbers_depend_on_the_whole_key() -> None:
    assert number(0, 1, 2) == number(0, 1, 2) and len({number(a, b) for a in range(9) for b in range(9)}) == 81
