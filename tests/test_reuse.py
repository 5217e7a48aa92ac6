"""Earlier successes in groups that have none: what is kept, where it goes, and that it repeats itself."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.envs import user
from turngym.trainers.reuse import Reuse
from turngym.trainers.rollout import Group, Outcome, Spec, Trajectory
from turngym.trainers.rows import REUSED

OUTCOMES = st.sampled_from(["terminated", "truncated", "env_error", "timeout"])
MEMBERS = st.lists(st.tuples(st.booleans(), OUTCOMES), min_size=1, max_size=6)
ASKED = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 1))
GROUPS = st.lists(st.tuples(ASKED, MEMBERS), min_size=1, max_size=4)


def episode(number: int, member: int, won: bool, outcome: Outcome = "terminated", task: str = "a", seed: int = 0):
    call = Call("policy", Request((1, 2, 3)), Sample((number, member), (-0.5, -0.25), (number,) * 2, "stop"))
    turns = (Turn(user("go"), Action("on", (call,)), float(won)),)
    return Trajectory(f"{number}.{member}", task, seed, number, member, turns, user("end"), outcome)


def group(number: int, *wins: bool, task: str = "a", seed: int = 0) -> Group:
    members = tuple(episode(number, m, won, task=task, seed=seed) for m, won in enumerate(wins))
    return Group(Spec(number, task, seed, len(wins)), members)


def of(number: int, asked: tuple[str, int], members: list[tuple[bool, Outcome]]) -> Group:
    task, seed = asked
    made = tuple(episode(number, m, won, outcome, task, seed) for m, (won, outcome) in enumerate(members))
    return Group(Spec(number, task, seed, len(made)), made)


def reused(group: Group) -> list[Trajectory]:
    return [t for t in group.trajectories if t.source == REUSED]


def test_a_group_without_a_success_gets_an_earlier_one() -> None:
    reuse = Reuse(0)
    first, later = group(0, False, True), group(1, False, False, False)
    assert reuse.fill([first], 0) == [first]
    (filled,) = reuse.fill([later], 1)
    (one,) = reused(filled)
    kept = [t for t in filled.trajectories if t is not one]
    assert len(filled.trajectories) == 3 and all(t in later.trajectories for t in kept)
    assert [t.member for t in filled.trajectories] == [0, 1, 2] and filled.spec == later.spec
    assert replace(one, group=0, member=1, source="policy") == first.trajectories[1]
    assert (one.group, one.reward, one.counted, one.scored) == (1, 1.0, False, True)


def test_it_is_of_the_same_task_and_seed_alone() -> None:
    reuse = Reuse(0)
    reuse.fill([group(0, True), group(1, True, seed=1), group(2, True, task="b")], 0)
    for number, (task, seed) in enumerate([("b", 1), ("c", 0)], 3):
        other = group(number, False, task=task, seed=seed)
        assert reuse.fill([other], 1) == [other]
    for task, seed, origin in (("a", 0, 0), ("a", 1, 1), ("b", 0, 2)):
        (filled,) = reuse.fill([group(9, False, False, task=task, seed=seed)], 2)
        assert [t.turns[0].action.calls[0].sample.tokens[0] for t in reused(filled)] == [origin]


def test_successes_of_an_update_are_used_after_it() -> None:
    reuse, groups = Reuse(0), [group(0, True), group(1, False)]
    assert reuse.fill(groups, 0) == groups
    assert reused(reuse.fill([group(2, False)], 1)[0])


def test_the_latest_are_kept() -> None:
    reuse = Reuse(0, kept=3)
    for update in range(7):
        reuse.fill([group(update, True)], update)
    drawn = {reused(reuse.fill([group(n, False)], 7)[0])[0].id for n in range(10, 60)}
    assert drawn == {"4.0", "5.0", "6.0"}


def test_a_reused_success_is_not_remembered_again() -> None:
    reuse = Reuse(0)
    reuse.fill([group(0, True)], 0)
    before = json.dumps(reuse.state_dict())
    filled = reuse.fill([group(1, False)], 1)
    reuse.fill(filled, 2)
    assert json.dumps(reuse.state_dict()) == before


def test_draws_are_keyed_by_seed_update_and_group() -> None:
    """What else is in the update, and in which order, changes nothing; each part of the key does."""

    def filled(seed: int = 0, update: int = 5, number: int = 9, beside: int = 0) -> tuple[object, ...]:
        reuse = Reuse(seed)
        reuse.fill([group(0, *[True] * 8)], 0)
        others = [group(100 + i, False, False) for i in range(beside)]
        found = reuse.fill([*others, group(number, *[False] * 8)], update)[-1]
        return tuple((t.member, t.id) for t in reused(found))

    assert filled() == filled() == filled(beside=3)
    for changed in ("seed", "update", "number"):
        assert len({filled(**{changed: value}) for value in range(1, 12)}) > 6


@given(GROUPS, GROUPS)
def test_failures_are_never_kept_and_never_replaced(earlier, later) -> None:
    reuse = Reuse(3, kept=2)
    before = [of(n, *said) for n, said in enumerate(earlier)]
    after = [of(50 + n, *said) for n, said in enumerate(later)]
    assert reuse.fill(before, 0) == before
    good = {t.id for g in before for t in g.trajectories if t.counted and t.reward > 0}
    for old, new in zip(after, reuse.fill(after, 1), strict=True):
        assert new.spec == old.spec
        assert [(t.member, t.group, t.attempt) for t in new.trajectories] == [
            (t.member, t.group, t.attempt) for t in old.trajectories
        ]
        changed = [(a, b) for a, b in zip(old.trajectories, new.trajectories, strict=True) if a is not b]
        assert [b for _, b in changed] == reused(new) and len(changed) <= 1
        assert all(a.counted and a.reward == 0 and b.id in good and b.outcome in ("terminated", "truncated")
                   for a, b in changed)  # fmt: skip
        known = any((g.spec.task, g.spec.seed) == (old.spec.task, old.spec.seed) and
                    any(t.id in good for t in g.trajectories) for g in before)  # fmt: skip
        counted = [t for t in old.trajectories if t.counted]
        assert bool(changed) is (known and bool(counted) and not any(t.reward > 0 for t in counted))


@given(GROUPS)
def test_state_goes_through_a_checkpoint(earlier) -> None:
    first, second = Reuse(1, kept=2), Reuse(1, kept=2)
    first.fill([of(n, *said) for n, said in enumerate(earlier)], 0)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert json.dumps(second.state_dict()) == json.dumps(first.state_dict())
    asked = [group(20 + n, False, False, task=task, seed=seed) for n in range(3) for task in "ab" for seed in (0, 1)]
    assert second.fill(asked, 4) == first.fill(asked, 4)
    second.load_state_dict({"successes": []})
    assert second.fill(asked, 4) == asked


@pytest.mark.parametrize("outcome", ["env_error", "judge_error", "agent_error", "timeout"])
def test_a_group_of_failures_is_left_alone(outcome) -> None:
    reuse = Reuse(0)
    reuse.fill([group(0, True)], 0)
    broken = of(1, ("a", 0), [(False, outcome)] * 3)
    assert reuse.fill([broken], 1) == [broken]
