"""Thompson sampling: its integral against closed forms, its draws against its integral, its decay by hand."""

from collections import Counter

import numpy as np
import pytest
from groups_by_hand import group, wins
from hypothesis import given, settings
from hypothesis import strategies as st

from turngym.envs import UsageError
from turngym.trainers.thompson import Thompson, winners

COUNTS = st.lists(st.tuples(st.floats(0.05, 200), st.floats(0.05, 200)), min_size=1, max_size=6)


def shares(*pairs: tuple[float, float]) -> list[float]:
    alpha, beta = np.array(pairs, float).T
    return winners(alpha, beta).tolist()


def known(uniform: float = 0.1, **counts: tuple[float, float]) -> Thompson:
    vade = Thompson([*counts], 0, uniform=uniform)
    won, lost = ({task: pair[i] for task, pair in counts.items()} for i in (0, 1))
    vade.load_state_dict({"wins": won, "losses": lost})
    return vade


def test_the_integral_is_right_where_it_has_a_closed_form() -> None:
    # u = min(p, 1 - p) has F(u) = 2 u under Beta(1, 1), and 6 u^2 - 4 u^3 under Beta(2, 2).
    # The integral of (6 u^2 - 4 u^3) 2 du to 1/2 is 1/2 - 1/8.
    assert shares((1, 1), (2, 2)) == pytest.approx([3 / 8, 5 / 8], abs=1e-6)
    # Of (2 u)^2 (12 u - 12 u^2) du: 48 (1/64 - 1/160).
    assert shares((1, 1), (1, 1), (2, 2)) == pytest.approx([0.275, 0.275, 0.45], abs=1e-6)
    # Beta(2, 1) and Beta(1, 2) have F(u) = u^2 + 1 - (1 - u)^2 = 2 u, as Beta(1, 1) has.
    assert shares((2, 1), (1, 2), (1, 1)) == pytest.approx([1 / 3] * 3, abs=1e-6)
    # Beta(1, 3) has F(u) = u^3 + 1 - (1 - u)^3 = 3 u - 3 u^2 + 2 u^3; times 2 du: 3/4 - 1/4 + 1/16.
    assert shares((1, 1), (1, 3)) == pytest.approx([9 / 16, 7 / 16], abs=1e-6)


def test_the_integral_is_right_for_many_tasks() -> None:
    alpha, beta = np.linspace(1, 30, 100), np.linspace(40, 2, 100)
    p = np.random.default_rng(0).beta(alpha, beta, (40_000, 100))
    found = np.bincount(np.argmax(p * (1 - p), 1), minlength=100) / 40_000
    exact = winners(alpha, beta)
    assert np.abs(found - exact).max() < 5 * np.sqrt(exact.max() / 40_000)


@settings(max_examples=50)
@given(COUNTS)
def test_shares_are_a_distribution_and_go_with_their_tasks(pairs: list[tuple[float, float]]) -> None:
    found = shares(*pairs)
    assert min(found) >= 0
    assert sum(found) == pytest.approx(1)
    assert shares(*pairs[::-1]) == pytest.approx(found[::-1])
    assert shares(*[(b, a) for a, b in pairs]) == pytest.approx(found)  # success and failure alike


def test_evidence_far_from_a_half_is_drawn_less() -> None:
    never, half, unknown = shares((1, 41), (21, 21), (1, 1))
    assert half > unknown > never


def test_overwhelming_evidence_leaves_numbers() -> None:
    assert shares((1e7, 1e7), (1.0, 1e7), (1e7, 1.0)) == pytest.approx([1, 0, 0], abs=1e-9)
    assert sum(shares((1.0, 1e7), (1.0, 1e7), (1.0, 1e8))) == pytest.approx(1)


def test_draws_agree_with_the_probabilities() -> None:
    vade = known(a=(4.0, 4.0), b=(0.0, 30.0), c=(7.0, 1.0), d=(0.0, 0.0))
    p = vade.probabilities()
    drawn = Counter(vade.draw(i) for i in range(20_000))
    assert {task: drawn[task] / 20_000 for task in p} == pytest.approx(p, abs=0.015)
    assert p["b"] == pytest.approx(0.1 / 4, abs=0.01)


def test_before_the_first_group_all_are_alike() -> None:
    vade = Thompson(["a", "b", "c"], 0)
    assert vade.probabilities() == pytest.approx(dict.fromkeys("abc", 1 / 3))
    assert vade.facts() == dict.fromkeys("abc", 0.5)


def test_counts_fade_on_two_scales() -> None:
    vade = Thompson(["a", "b"], 0, aging=0.9, memory=0.5)
    vade.update([wins("a", 3)])
    assert (vade.wins, vade.losses) == ({"a": 3, "b": 0}, {"a": 5, "b": 0})
    vade.update([wins("b", 6)])  # the policy has changed: a fades too
    assert (vade.wins, vade.losses) == (pytest.approx({"a": 2.7, "b": 6}), pytest.approx({"a": 4.5, "b": 2}))
    vade.update([wins("a", 1), wins("a", 0, 4)])
    assert vade.wins == pytest.approx({"a": 0.9 * 0.5 * 2.7 + 1, "b": 0.9 * 6})
    assert vade.losses == pytest.approx({"a": 0.9 * 0.5 * 4.5 + 7 + 4, "b": 0.9 * 2})
    alpha, beta = 1 + 0.45 * 2.7 + 1, 1 + 0.45 * 4.5 + 11
    assert vade.facts()["a"] == pytest.approx(alpha / (alpha + beta))


def test_old_evidence_fades_to_the_prior() -> None:
    vade = Thompson(["a", "b"], 0, prior=2.0, aging=0.5)
    vade.update([wins("a", 8)])
    assert vade.facts()["a"] == pytest.approx(10 / 12)
    for _ in range(60):
        vade.update([wins("b", 4)])
    assert vade.facts()["a"] == pytest.approx(0.5)


def test_the_order_within_an_update_does_not_matter() -> None:
    groups = [wins("a", 3), wins("b", 1), wins("a", 7, 16)]
    first, second = Thompson(["a", "b"], 0), Thompson(["a", "b"], 0)
    for vade, order in ((first, groups), (second, groups[::-1])):
        vade.update([wins("a", 2), wins("b", 2)])
        vade.update(order)
    assert first.state_dict() == second.state_dict()


def test_a_failed_group_ages_nothing() -> None:
    vade = Thompson(["a", "b"], 0)
    vade.update([wins("a", 4)])
    vade.update([group("b", failed=8)])
    assert (vade.wins["a"], vade.losses["a"]) == (4, 4)


def test_what_teaches_most_comes_most() -> None:
    vade = Thompson(["never", "half", "always"], 0)
    for _ in range(30):
        vade.update([wins("never", 0), wins("half", 4), wins("always", 8)])
    p = vade.probabilities()
    assert p["half"] > 0.95
    assert p["never"] == pytest.approx(p["always"])
    assert p["never"] >= 0.05 / 3


@pytest.mark.parametrize(
    "wrong", [{"prior": 0.0}, {"aging": 1.1}, {"memory": -0.1}, {"uniform": 0.0}, {"uniform": 1.1}]
)
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="prior"):
        Thompson(["a"], 0, **wrong)
