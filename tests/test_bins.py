"""Bins of difficulty: the bin first, by its weight, then a task in it."""

from collections import Counter, defaultdict

import pytest
from groups_by_hand import wins
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs import UsageError
from turngym.trainers.bins import Bins


def placed(**success: float) -> Bins:
    bins = Bins([*success], 0)
    bins.load_state_dict({"success": success})
    return bins


def test_a_task_lies_in_the_bin_of_its_running_success() -> None:
    bins = placed(a=0.0, b=0.19, c=0.2, d=0.5, e=0.6, f=0.79, g=0.8, h=1.0)
    assert [bins.bin(task) for task in bins.tasks] == [0, 0, 1, 2, 3, 3, 4, 4]


def test_the_middle_is_drawn_most_and_tasks_of_a_bin_alike() -> None:
    p = placed(a=0.0, b=0.1, c=0.5, d=0.7, e=1.0).probabilities()
    # Bins 0, 2, 3 and 4 have tasks: their weights are 1, 4, 2 and 1, of 8.
    assert p == pytest.approx({"a": 1 / 16, "b": 1 / 16, "c": 4 / 8, "d": 2 / 8, "e": 1 / 8})


def test_hopeless_tasks_do_not_crowd_out_the_others() -> None:
    many = placed(half=0.5, **{f"never{i}": 0.0 for i in range(100)})
    assert many.probabilities()["half"] == pytest.approx(4 / 5)


def test_before_the_first_group_all_are_alike() -> None:
    assert Bins(["a", "b", "c", "d"], 0).probabilities() == dict.fromkeys("abcd", 1 / 4)


def test_a_group_moves_its_task() -> None:
    bins = Bins(["a", "b"], 0, memory=0.5)
    bins.update([wins("a", 8)])
    assert (bins.success, bins.bin("a"), bins.bin("b")) == ({"a": 0.75, "b": 0.5}, 3, 2)
    assert bins.probabilities() == pytest.approx({"a": 2 / 6, "b": 4 / 6})
    assert bins.facts() == {"a": 0.75, "b": 0.5}


def test_draws_are_as_the_probabilities_say() -> None:
    bins = placed(a=0.0, b=0.1, c=0.5, d=1.0)
    drawn = Counter(bins.draw(i) for i in range(4000))
    p = bins.probabilities()
    assert all(drawn[task] / 4000 == pytest.approx(p[task], abs=0.03) for task in p)


@given(
    success=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    weights=st.lists(st.floats(0.01, 100), min_size=3, max_size=3),
)
def test_a_bin_has_the_share_of_its_weight(success: list[float], weights: list[float]) -> None:
    bins = Bins([str(i) for i in range(len(success))], 0, edges=(0.3, 0.7), weights=weights)
    bins.load_state_dict({"success": {str(i): p for i, p in enumerate(success)}})
    shares = defaultdict[int, float](float)
    for task, p in bins.probabilities().items():
        shares[bins.bin(task)] += p
    whole = sum(weights[b] for b in shares)
    assert shares == pytest.approx({b: weights[b] / whole for b in shares})


@pytest.mark.parametrize(
    "wrong",
    [
        {"edges": (0.5, 0.5, 0.6, 0.7)},
        {"edges": (0.0, 0.4, 0.6, 0.8)},
        {"edges": (0.2, 0.4, 0.6, 1.0)},
        {"edges": (0.5,)},
        {"weights": (1.0, 2.0)},
        {"weights": (0.0, 1.0, 1.0, 1.0, 1.0)},
    ],
)
def test_wrong_bins_are_refused(wrong) -> None:
    with pytest.raises(UsageError, match="edges"):
        Bins(["a"], 0, **wrong)
