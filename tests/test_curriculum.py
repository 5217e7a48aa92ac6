"""Tasks are drawn where groups have spread; the state alone decides."""

from collections import Counter

import pytest

from turngym.trainers.curriculum import Spread
from turngym.trainers.rollout import Group, Outcome, Spec, Trajectory


def group(task: str, wins: int, size: int = 8, outcome: Outcome = "terminated") -> Group:
    from turngym.agents import Action, Turn

    played = tuple(
        Trajectory(str(i), task, 0, 0, i, (Turn((), Action(""), float(i < wins)),), (), outcome) for i in range(size)
    )
    return Group(Spec(0, task, 0, size), played)


def test_tasks_with_spread_come_more_often_and_none_starves() -> None:
    spread = Spread(["half", "never", "always"], seed=0)
    for _ in range(30):
        spread.update([group("half", 4), group("never", 0), group("always", 8)])
    drawn = Counter(spread.draw(i) for i in range(3000))
    assert drawn["half"] / 3000 == pytest.approx(1 / 1.3, abs=0.03)
    assert drawn["never"] / 3000 == pytest.approx(0.15 / 1.3, abs=0.02)
    assert drawn["always"] / 3000 == pytest.approx(0.15 / 1.3, abs=0.02)


def test_failures_say_nothing_about_a_task() -> None:
    spread = Spread(["a"], seed=0)
    spread.update([group("a", 0, outcome="env_error")])
    assert spread.success == {"a": 0.5}


def test_the_running_mean_is_that_of_the_groups() -> None:
    spread = Spread(["a"], seed=0, memory=0.8)
    spread.update([group("a", 8), group("a", 2)])
    assert spread.success["a"] == pytest.approx(0.8 * (0.8 * 0.5 + 0.2) + 0.2 * 0.25)


def test_state_goes_through_a_checkpoint() -> None:
    first, second = Spread(["a", "b"], seed=3), Spread(["a", "b"], seed=3)
    first.update([group("a", 1), group("b", 8)])
    second.load_state_dict(first.state_dict())
    assert [first.draw(i) for i in range(50)] == [second.draw(i) for i in range(50)]
    assert [Spread(["a", "b"], seed=4).draw(i) for i in range(50)] != [first.draw(i) for i in range(50)]
