"""What every curriculum keeps to: no task starves, failures say nothing, the state is all there is."""

import json
from collections.abc import Sequence
from typing import get_args

import pytest
from groups_by_hand import TASKS, UPDATES, group, wins
from hypothesis import given, settings

from turngym.trainers.curricula import CURRICULA
from turngym.trainers.curriculum import Make, Name
from turngym.trainers.rollout import Group

every = pytest.mark.parametrize("make", CURRICULA.values(), ids=CURRICULA)


def learned(make: Make, updates: Sequence[Sequence[Group]], seed: int = 3):
    curriculum = make(TASKS, seed)
    for groups in updates:
        curriculum.update(groups)
    return curriculum


def test_every_name_has_its_own() -> None:
    assert set(CURRICULA) == set(get_args(Name))
    assert len({*CURRICULA.values()}) == len(CURRICULA)


@every
@settings(max_examples=50)
@given(updates=UPDATES)
def test_probabilities_are_positive_and_of_all_tasks(make: Make, updates: Sequence[Sequence[Group]]) -> None:
    p = learned(make, updates).probabilities()
    assert tuple(p) == TASKS
    assert min(p.values()) > 1e-4
    assert sum(p.values()) == pytest.approx(1, abs=1e-12)


@every
@settings(max_examples=50)
@given(updates=UPDATES)
def test_failures_change_nothing(make: Make, updates: Sequence[Sequence[Group]]) -> None:
    clean = [[g for g in groups if any(t.counted for t in g.trajectories)] for groups in updates]
    noisy = [[*groups, group("a", failed=3)] for groups in updates] + [[group("b", failed=8)], []]
    assert learned(make, noisy).state_dict() == learned(make, [groups for groups in clean if groups]).state_dict()


@every
@settings(max_examples=25)
@given(updates=UPDATES)
def test_a_restored_one_goes_on_bit_for_bit(make: Make, updates: Sequence[Sequence[Group]]) -> None:
    first, second = learned(make, updates), make(TASKS, 3)
    saved = json.dumps(first.state_dict())
    second.load_state_dict(json.loads(saved))
    for groups in ([wins("a", 3), wins("d", 8)], [wins("c", 0), group("a", 0.5, 2.0, failed=1)]):
        assert [first.draw(i) for i in range(20)] == [second.draw(i) for i in range(20)]
        first.update(groups)
        second.update(groups)
    assert first.state_dict() == second.state_dict()
    assert first.probabilities() == second.probabilities()
    assert first.facts() == second.facts()


@every
def test_a_state_is_a_copy(make: Make) -> None:
    first = learned(make, [[wins("a", 3), wins("b", 8)]])
    saved = first.state_dict()
    text = json.dumps(saved)
    second = make(TASKS, 3)
    second.load_state_dict(saved)
    second.update([wins("a", 1), wins("c", 4)])
    first.update([wins("b", 1)])
    assert json.dumps(saved) == text


@every
def test_a_draw_depends_on_seed_group_and_state_alone(make: Make) -> None:
    updates = [[wins("a", 3), wins("b", 8)], [wins("c", 4)]]
    forth, back = learned(make, updates), learned(make, updates)
    drawn = [forth.draw(i) for i in range(60)]
    assert [back.draw(i) for i in reversed(range(60))] == drawn[::-1]
    assert [learned(make, updates, seed=4).draw(i) for i in range(60)] != drawn
    assert json.dumps(forth.state_dict()) == json.dumps(learned(make, updates).state_dict())


@every
def test_facts_are_numbers_by_task(make: Make) -> None:
    facts = learned(make, [[wins("a", 3), wins("b", 8)]]).facts()
    assert set(facts) in ({*TASKS}, set())
    assert all(isinstance(known, float) for known in facts.values())


@every
def test_one_task_is_always_drawn(make: Make) -> None:
    only = make(["a"], 0)
    only.update([wins("a", 8)])
    assert only.probabilities() == {"a": pytest.approx(1)}
    assert only.draw(7) == "a"
