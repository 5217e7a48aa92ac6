"""How groups are played: parts, costs and what an update learns from, by enumeration and on the bank."""

from itertools import product
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents import Action, Turn
from turngym.envs import UsageError
from turngym.trainers.bank import Bank, Player
from turngym.trainers.bank.planned import Ledger, Planned
from turngym.trainers.planner import Plain, Resample, Stages, joined, planner, successes
from turngym.trainers.rollout import Group, Outcome, Spec, Trajectory

SUCCESS = (0.0, 0.05, 0.3, 0.5, 0.97, 1.0)
EACH_SUCCESS = pytest.mark.parametrize("p", SUCCESS)
BINARY = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=12)


def episode(member: int, reward: float, outcome: Outcome = "terminated", source: str = "policy") -> Trajectory:
    turns = (Turn((), Action(""), reward),)
    return Trajectory(str(member), "t", 0, 0, member, turns, (), outcome, source=source)


def play(spec: Spec, rewards: list[float]) -> Group:
    """The members of ``spec`` with these returns of the whole group."""
    return Group(spec, tuple(episode(m, rewards[m]) for m in spec.members))


def whole(plan: Plain | Stages | Resample, rewards: list[float]) -> tuple[Group, int]:
    """A group with all its parts, and their number."""
    group, count, spec = None, 0, plan.first(Spec(0, "t", 0, len(rewards)))
    while spec is not None:
        group, count = joined(group, play(spec, rewards)), count + 1
        spec = plan.more(group)
    assert group is not None
    return group, count


def chance(rewards: tuple[float, ...], p: float) -> float:
    wins = sum(rewards)
    return float(p**wins * (1 - p) ** (len(rewards) - wins))


@EACH_SUCCESS
@pytest.mark.parametrize(("each", "stages"), [(4, 2), (2, 3), (1, 5), (8, 1)])
def test_stages_cost_what_the_formula_says(each, stages, p) -> None:
    """E[n] = k sum over s of (1 - p)^(k s), by enumeration of all outcomes."""
    plan = Stages(each, each * stages)
    every = product((0.0, 1.0), repeat=each * stages)
    exact = sum(chance(rewards, p) * len(whole(plan, list(rewards))[0].trajectories) for rewards in every)
    formula = each * sum((1 - p) ** (each * s) for s in range(stages))
    assert plan.cost(p) == pytest.approx(formula) == pytest.approx(exact)


@pytest.mark.parametrize(("p", "cost"), [(0.05, 23.8), (0.5, 8.1), (0.97, 37.0), (0.3, None)])
def test_a_kept_group_costs_what_the_formula_says(p, cost) -> None:
    """G / (1 - p^G - (1 - p)^G), by enumeration of what is kept."""
    plan, every = Resample(10**9), product((0.0, 1.0), repeat=8)
    kept = sum(chance(r, p) for r in every if plan.keeps(play(Spec(0, "t", 0, 8), list(r)), 0))
    assert 8 / kept == pytest.approx(8 / (1 - p**8 - (1 - p) ** 8))
    assert cost is None or 8 / kept == pytest.approx(cost, abs=0.3)


def played(p: float, plan: Plain | Stages | Resample, groups: int) -> tuple[list[Group], Ledger]:
    world, ledger = Bank(odds=(p,)), Ledger()
    made = Planned(Player(world, 0), plan, ledger, groups=groups, size=8)
    return made.play(world.logits(), 0)[0], ledger


@pytest.mark.parametrize("p", [0.05, 0.3, 0.97])
def test_stages_on_the_bank_cost_the_same(p) -> None:
    """Within 4.5 standard errors over 1,000 groups."""
    plan, count = Stages(4, 8), 1_000
    groups, ledger = played(p, plan, count)
    q = (1 - p) ** 4
    assert abs(ledger.responses / count - plan.cost(p)) < 4.5 * 4 * sqrt(q * (1 - q) / count) + 1e-9
    assert ledger.responses == sum(len(g.trajectories) for g in groups) and ledger.dropped == 0
    assert ledger.tokens == 3 * ledger.responses


@pytest.mark.parametrize("p", [0.05, 0.5, 0.97])
def test_resampling_on_the_bank_costs_the_same(p) -> None:
    """Within 4.5 standard errors over 200 kept groups: dropped ones are geometric."""
    groups, ledger = played(p, Resample(10**9), 200)
    kept = 1 - p**8 - (1 - p) ** 8
    error = 8 * sqrt((1 - kept) / kept**2 / 200)
    assert abs(ledger.responses / 200 - 8 / kept) < 4.5 * error
    assert ledger.responses == 8 * (200 + ledger.dropped)
    assert all(0 < successes(g) < 8 for g in groups)


def test_resampling_ends_where_nothing_can_be_learned() -> None:
    groups, ledger = played(1e-9, Resample(20), 4)
    assert (len(groups), ledger.dropped, ledger.responses) == (4, 20, 8 * 24)


@given(rewards=BINARY)
def test_plain_groups_are_whole_and_kept(rewards) -> None:
    group, parts = whole(Plain(), rewards)
    assert parts == 1 and [t.reward for t in group.trajectories] == rewards and Plain().keeps(group, 10**9)


@given(each=st.integers(1, 4), stages=st.integers(1, 4), data=st.data())
def test_stages_end_with_the_first_success(each, stages, data) -> None:
    rewards = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=each * stages, max_size=each * stages))
    plan = Stages(each, each * stages)
    group, parts = whole(plan, rewards)
    size = len(group.trajectories)
    assert size == group.spec.size == parts * each and group.spec.first == 0
    assert [t.member for t in group.trajectories] == [*range(size)]
    assert not any(rewards[: size - each]), "a stage after a success"
    assert any(rewards[size - each : size]) or size == each * stages, "no stage before the last without one"
    assert plan.keeps(group, 10**9)


@given(rewards=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=8), dropped=st.integers(0, 6))
def test_groups_without_spread_are_dropped_so_many_times(rewards, dropped) -> None:
    group = play(Spec(0, "t", 0, len(rewards)), rewards)
    assert Resample(3).keeps(group, dropped) is (len(set(rewards)) > 1 or dropped >= 3)


def test_failures_are_no_successes_and_no_spread() -> None:
    spec = Spec(0, "t", 0, 2)
    broken = Group(spec, (episode(0, 1.0, "env_error"), episode(1, 0.0)))
    greedy = Group(spec, (episode(0, 0.0), episode(1, 1.0, source="greedy")))
    for group in (broken, greedy):
        assert successes(group) == 0 and not Resample(1).keeps(group, 0)
        assert Stages(2, 4).more(group) == Spec(0, "t", 0, 2, first=2)


def test_planners_by_name() -> None:
    numbers = {"groups": 3, "size": 8, "stages": 2, "most": 10}
    made = [planner(name, **numbers) for name in ("plain", "stages", "resample")]
    assert made == [Plain(), Stages(4, 8), Resample(30)]
    for stages in (1, 3, 16):
        with pytest.raises(UsageError, match="stages"):
            planner("stages", **(numbers | {"stages": stages}))
    with pytest.raises(UsageError, match="stages of 3"):
        Stages(3, 8)
