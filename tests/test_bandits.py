"""The bandits' rewards, values and scores, against the formulas written out."""

from collections import Counter
from dataclasses import replace
from math import exp, log, sqrt

import pytest
from groups_by_hand import RETURNS, TASKS, UPDATES, group, wins
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs import UsageError
from turngym.trainers.bandits import SelfEvolving, UpperConfidence, advantages

both = pytest.mark.parametrize("make", [SelfEvolving, UpperConfidence])


def gain(won: int, size: int) -> float:
    """Mean |advantage| of a group with ``won`` successes."""
    p = won / size
    return 2 * sqrt(p * (1 - p) * (size - 1) / size)


def test_advantages_are_those_of_grpo() -> None:
    # Mean 2, squared gaps 1, 4, 0, 9 of four episodes: unbiased variance 14 / 3.
    assert advantages([3.0, 4.0, 2.0, -1.0]) == pytest.approx([gap / sqrt(14 / 3) for gap in (1, 2, 0, 3)])
    assert sum(advantages([1.0] * 3 + [0.0] * 5)) / 8 == pytest.approx(gain(3, 8))


@pytest.mark.parametrize("equal", [[], [1.0], [0.1, 0.1, 0.1], [0.0] * 8])
def test_equal_returns_have_none(equal: list[float]) -> None:
    assert advantages(equal) == [0.0] * len(equal)


@given(st.lists(RETURNS, min_size=2, max_size=10))
def test_the_mean_advantage_is_at_most_one(scored: list[float]) -> None:
    n = len(scored)
    assert 0 <= sum(advantages(scored)) / n <= sqrt((n - 1) / n) + 1e-9


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=8), st.integers(1, 50), st.integers(-50, 50))
def test_scale_and_origin_of_the_returns_do_not_matter(scored: list[int], scale: int, origin: int) -> None:
    moved = [float(scale * r + origin) for r in scored]
    assert advantages(moved) == pytest.approx(advantages([float(r) for r in scored]))


def test_very_near_returns_are_no_division_by_zero() -> None:
    assert advantages([0.0, 0.0, 0.0, 0.0, 0.0, 5e-324]) == [0.0] * 6
    assert advantages([0.0, 1e-200]) == pytest.approx([sqrt(0.5)] * 2)


def test_a_value_moves_towards_the_mean_advantage_of_the_update() -> None:
    sec = SelfEvolving(["a", "b"], 0, alpha=0.25)
    sec.update([wins("a", 4)])
    first = 0.25 * gain(4, 8)
    assert sec.value == pytest.approx({"a": first, "b": 0})
    sec.update([wins("a", 2, 4), wins("b", 1), wins("a", 0)])  # a: 4 episodes of the one group, 8 of the other
    assert sec.facts() == pytest.approx({"a": first + 0.25 * (gain(2, 4) * 4 / 12 - first), "b": 0.25 * gain(1, 8)})


def test_an_arm_that_was_not_played_keeps_its_value() -> None:
    sec = SelfEvolving(["a", "b"], 0)
    sec.update([wins("a", 4)])
    kept = sec.value["a"]
    sec.update([wins("b", 4)])
    assert sec.value["a"] == kept > 0


def test_values_are_drawn_by_a_softmax() -> None:
    sec = SelfEvolving(["a", "b", "c"], 0, temperature=0.3, uniform=0.1)
    sec.load_state_dict({"value": {"a": 0.9, "b": 0.3, "c": 0.0}})
    weights = exp(0.9 / 0.3), exp(0.3 / 0.3), exp(0)
    expected = [0.9 * w / sum(weights) + 0.1 / 3 for w in weights]
    assert [*sec.probabilities().values()] == pytest.approx(expected)


def test_before_the_first_group_all_are_alike() -> None:
    for make in (SelfEvolving, UpperConfidence):
        assert make(TASKS, 0).probabilities() == pytest.approx(dict.fromkeys(TASKS, 1 / 4))


def test_scores_are_the_mean_advantage_and_a_bonus_for_few_episodes() -> None:
    dump = UpperConfidence(["a", "b", "c"], 0, temperature=0.5, uniform=0.2)
    dump.update([wins("a", 4), wins("b", 8)])
    dump.update([wins("a", 1, 4)])
    scores = [
        (8 * gain(4, 8) + 4 * gain(1, 4)) / 12 + sqrt(2 * log(21) / 13),
        0 + sqrt(2 * log(21) / 9),
        0 + sqrt(2 * log(21) / 1),
    ]
    assert [*dump.scores().values()] == pytest.approx(scores)
    weights = [exp(s / 0.5) for s in scores]
    assert [*dump.probabilities().values()] == pytest.approx([0.8 * w / sum(weights) + 0.2 / 3 for w in weights])


def test_the_window_forgets_and_the_count_does_not() -> None:
    dump = UpperConfidence(["a"], 0, window=6)
    dump.update([wins("a", 4)])
    dump.update([wins("a", 0, 4)])
    # Of eight equal gaps two are left, and four of 0.
    assert dump.facts() == pytest.approx({"a": 2 * gain(4, 8) / 6})
    assert dump.played == {"a": 12}
    dump.update([wins("a", 0)])
    assert (dump.facts(), dump.played) == ({"a": 0.0}, {"a": 20})


def test_a_neglected_task_comes_back() -> None:
    dump = UpperConfidence(["a", "b"], 0)
    dump.update([wins("a", 4), wins("b", 0)])
    before = dump.probabilities()["b"]
    for _ in range(50):
        dump.update([wins("a", 4)])
    assert dump.probabilities()["b"] > before


@both
def test_draws_are_as_the_probabilities_say(make: type[SelfEvolving] | type[UpperConfidence]) -> None:
    bandit = make(["a", "b", "c"], 0)
    bandit.update([wins("a", 4), wins("b", 1), wins("c", 0)])
    p = bandit.probabilities()
    drawn = Counter(bandit.draw(i) for i in range(4000))
    assert all(drawn[task] / 4000 == pytest.approx(p[task], abs=0.03) for task in p)
    assert p["a"] > p["b"] > p["c"]


@both
@given(updates=UPDATES, temperature=st.floats(1e-6, 1e3), uniform=st.floats(1e-3, 1))
def test_no_task_starves_at_any_temperature(make, updates, temperature: float, uniform: float) -> None:
    bandit = make(TASKS, 0, temperature=temperature, uniform=uniform)
    for groups in updates:
        bandit.update(groups)
    p = bandit.probabilities()
    assert min(p.values()) >= uniform / 4 * (1 - 1e-9)
    assert sum(p.values()) == pytest.approx(1)


def test_a_greedy_episode_beside_the_group_is_not_counted() -> None:
    played = group("a", 1.0, 0.0)
    greedy = replace(played.trajectories[0], member=2, source="greedy")
    dump = UpperConfidence(["a"], 0)
    dump.update([replace(played, trajectories=(*played.trajectories, greedy))])
    assert dump.played == {"a": 2}


@both
@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"uniform": 0.0}, {"uniform": 1.5}])
def test_what_would_starve_a_task_is_refused(make, wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="temperature"):
        make(["a"], 0, **wrong)


def test_what_would_not_learn_is_refused() -> None:
    with pytest.raises(UsageError, match="alpha"):
        SelfEvolving(["a"], 0, alpha=0.0)
    with pytest.raises(UsageError, match="window"):
        UpperConfidence(["a"], 0, window=0)
