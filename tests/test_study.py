"""What the loop and a replay share: outcomes, results, and the demonstrations of an update."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.envs import Failure
from turngym.trainers.recipes import RUNS
from turngym.trainers.rollout import Group, Outcome, Spec, Trajectory
from turngym.trainers.study import Study, context, results, shares


def played(reward: float, outcome: Outcome = "terminated", level: int = 1, turns: int = 1) -> Trajectory:
    call = Call("policy", Request((1, 2, 3), 4), Sample((5, 6), (-1.0, -1.0), (0, 0), "stop"))
    info = {"level": level}
    done = tuple(Turn((), Action("", (call,)), reward if i == turns - 1 else 0.0, info) for i in range(turns))
    return Trajectory("t", "t", 0, 0, 0, done, (), outcome)


def group(*trajectories: Trajectory) -> Group:
    return Group(Spec(0, "t", 0, len(trajectories)), trajectories)


def test_shares_of_outcomes_add_to_one() -> None:
    found = shares([played(1), played(0), played(0, "truncated"), played(0, "timeout")], 0.25)
    assert found == {"terminated": 0.5, "timeout": 0.25, "truncated": 0.25}


def test_too_many_failures_stop_the_run_with_their_names() -> None:
    with pytest.raises(Failure, match=r"50% of 4 episodes failed \(1 env_error, 2 terminated, 1 timeout\)"):
        shares([played(1), played(0), played(0, "env_error"), played(0, "timeout")], 0.25)


def test_results_are_those_of_scored_episodes() -> None:
    groups = [group(played(1), played(0), played(0, "env_error")), group(played(1, level=2), played(1, level=2))]
    found = results(groups)
    assert found["success"] == found["reward"] == pytest.approx(3 / 4)
    assert (found["success/1"], found["success/2"]) == (0.5, 1.0)
    assert found["spread"] == 0.5, "the second group can teach nothing"


def test_a_failure_is_no_spread_and_no_more_is_a_baseline() -> None:
    assert results([group(played(1), played(0, "env_error"))])["spread"] == 0
    greedy = replace(played(0), source="greedy")
    found = results([group(played(1), played(1), greedy)])
    assert (found["spread"], found["success"]) == (0, 1)


def test_context_is_of_calls_not_of_episodes() -> None:
    assert context([played(1, turns=2), played(0)]) == 5
    assert context([]) == 0


def test_an_update_draws_its_own_demonstrations_and_always_the_same() -> None:
    demos = [played(1, turns=i + 1) for i in range(6)]

    def drawn(version: int, rehearsal: int = 3) -> list[Trajectory]:
        run, learner = SimpleNamespace(seed=0, rehearsal=rehearsal, reuse=0), SimpleNamespace(version=version)
        return Study(cast(Any, run), cast(Any, learner), cast(Any, None), demos)._rehearsed()

    assert drawn(1) == drawn(1) and len(drawn(1)) == 3
    assert any(drawn(1) != drawn(v) for v in range(2, 6))
    assert sorted(len(t.turns) for t in drawn(1, rehearsal=99)) == [1, 2, 3, 4, 5, 6]


def test_a_baseline_teaches_only_who_wants_it() -> None:
    seen: list[int] = []

    class Learned:
        version = 0

        def update(self, batch: Any, progress: float) -> dict[str, float]:
            seen.append(len(batch.reward))
            return {"tokens": 1.0}

    for name in ("remax", "rloo"):
        curriculum = SimpleNamespace(update=lambda groups: None, facts=dict)
        study = Study(replace(RUNS[name](), rehearsal=0), cast(Any, Learned()), cast(Any, curriculum), [])
        study.learn([group(played(1), played(0), replace(played(1), source="greedy"))])
    assert seen == [3, 2]


def test_dropped_groups_are_heard_of_and_teach_no_weights() -> None:
    """Their failures count among all, and the curriculum learns from them; a batch does not hold them."""
    heard: list[int] = []
    learned: list[int] = []

    class Learned:
        version = 0

        def update(self, batch: Any, progress: float) -> dict[str, float]:
            learned.append(len(batch.reward))
            return {"tokens": 1.0}

    def update(groups: Any) -> None:
        heard.extend(g.spec.group for g in groups)

    curriculum = SimpleNamespace(update=update, facts=dict)
    study = Study(replace(RUNS["rloo"](), rehearsal=0), cast(Any, Learned()), cast(Any, curriculum), [])
    kept, same = group(played(1), played(0)), replace(group(played(1)), spec=Spec(3, "t", 0))
    facts = study.learn([replace(kept, spec=Spec(4, "t", 0, 2))], [same])
    assert (heard, learned) == ([3, 4], [2]) and facts["success"] == 0.5
    with pytest.raises(Failure, match="50% of 4 episodes failed"):
        study.learn([kept], [group(played(0, "env_error"), played(0, "env_error"))])
