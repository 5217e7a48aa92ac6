"""The loop's rules under virtual time: admission, lag, slow tasks, failures, deadlines (rules 3 and 7)."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turngym.envs import TurngymError
from turngym.trainers.admission import Admission
from turngym.trainers.episodes import Dump, stored
from turngym.trainers.log import Log, rows
from turngym.trainers.loop import Loop
from turngym.trainers.recipes import webagent_r1
from turngym.trainers.rollout import Limits, Spec
from turngym.trainers.settings import Run
from turngym.trainers.simulate import Law, Players, Simulated, Student, VirtualLoop, World, lags, simulate

LAWS: dict[str, Law] = {
    "constant": lambda rng: 1.0,
    "uniform": lambda rng: float(rng.random()),
    "log-normal": lambda rng: float(rng.lognormal(np.log(0.2), 1.4)),
    "rare stall": lambda rng: 60.0 if rng.random() < 0.02 else 0.1,
    "none": lambda rng: 0.0,
}


def run(**changes: Any) -> Run:
    return replace(webagent_r1(), **({"steps": 12, "groups": 4, "size": 3} | changes))


def again(seed: int, tmp: Path, law: str, name: str = "a", **changes: Any) -> Simulated:
    return simulate(run(seed=seed, **changes), World(LAWS[law]), tmp / name)


@settings(max_examples=25)
@given(
    law=st.sampled_from(sorted(LAWS)),
    max_lag=st.integers(0, 5),
    groups=st.integers(1, 6),
    slots=st.sampled_from([0, 2, 5]),
    seed=st.integers(0, 99),
)
def test_no_token_is_older_than_the_bound_and_every_group_trains_once(
    tmp_path_factory: pytest.TempPathFactory, law: str, max_lag: int, groups: int, slots: int, seed: int
) -> None:
    done = again(seed, tmp_path_factory.mktemp("run"), law, max_lag=max_lag, groups=groups, slots=slots)
    assert max(done.lags) <= max_lag
    assert [len(batch) for batch in done.batches] == [groups] * 12
    trained = [g.spec.group for batch in done.batches for g in batch]
    assert len(set(trained)) == len(trained)
    # nothing is discarded: what is left at the end are the youngest
    assert set(trained) >= set(range(12 * groups - groups * max_lag))


@pytest.mark.parametrize("law", sorted(LAWS))
def test_without_lag_a_run_is_synchronous_and_latencies_change_nothing(tmp_path: Path, law: str) -> None:
    done, other = again(0, tmp_path, law, "a"), again(0, tmp_path, "uniform", "b")
    assert set(done.lags) == {0}
    for batch, same in zip(done.batches, other.batches, strict=True):
        assert batch == same


def test_slow_tasks_train_like_fast_ones(tmp_path: Path) -> None:
    """In a world where slow episodes pay more, the mean reward of what trains is that of what was admitted."""
    world = World(LAWS["rare stall"], pay=lambda seconds: float(seconds > 10))
    whole = simulate(run(max_lag=3, steps=60), world, tmp_path / "bounded")
    loose = simulate(run(max_lag=3, steps=60, soft=True), world, tmp_path / "soft")
    assert sorted(g.spec.group for b in whole.batches for g in b) == [*range(240)]

    rates = [float(np.mean([t.reward for g in batch for t in g.trajectories])) for batch in whole.batches]
    assert np.mean(rates) == pytest.approx(0.1, abs=0.05)  # 1 - 0.98 ** 5
    assert delay(whole) < 1 and delay(loose) > 2  # without waiting, slow episodes come updates later than fast ones
    assert max(loose.lags) > 3 >= max(whole.lags)


def delay(done: Simulated) -> float:
    """Updates by which an episode that paid trains later than its group's number says."""
    late = [v - g.spec.group // 4 for v, b in enumerate(done.batches) for g in b for t in g.trajectories if t.reward]
    return float(np.mean(late))


def test_a_bound_on_lag_buys_time(tmp_path: Path) -> None:
    seconds = [again(0, tmp_path, "log-normal", str(lag), max_lag=lag, steps=20).seconds for lag in (0, 1, 4)]
    assert seconds[0] > 1.3 * seconds[1] > 1.3 * seconds[2]


def test_a_group_is_as_old_as_its_first_token_not_as_its_place_in_the_queue(tmp_path: Path) -> None:
    """With few slots most admitted groups wait; were that time lag, updates would wait for them, too."""
    changes = {"max_lag": 2, "steps": 40, "slots": 6}
    done = again(0, tmp_path, "log-normal", "a", **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Admission, "begin", lambda *_: None)
        other = again(0, tmp_path, "log-normal", "b", **changes)
    assert max(done.lags) <= 2 and max(other.lags) <= 2
    assert done.seconds < 0.95 * other.seconds


def test_episodes_go_on_under_new_weights_and_say_so(tmp_path: Path) -> None:
    done = again(0, tmp_path, "log-normal", max_lag=2, steps=20)
    mixed = [t for b in done.batches for g in b for t in g.trajectories if len(versions(t)) > 1]
    assert mixed
    for t in mixed:
        assert versions(t) == sorted(versions(t))


def versions(trajectory: Any) -> list[int]:
    return list(dict.fromkeys(v for turn in trajectory.turns for c in turn.action.calls for v in c.sample.versions))


def test_what_was_learned_from_is_on_disk(tmp_path: Path) -> None:
    done = again(0, tmp_path, "uniform", max_lag=1)
    assert [update.groups for update in stored(tmp_path / "a")] == [*done.batches]
    assert lags(done.batches[0], 0) == [0] * len(lags(done.batches[0], 0)) != []


def test_a_deadline_is_an_outcome_and_no_reward() -> None:
    players = Players(World(LAWS["rare stall"], turns=50), limits=Limits(step=5.0))
    players.submit([Spec(0, "t", 0, 20)])
    (group,) = players.collect(1)
    outcomes = {t.outcome for t in group.trajectories}
    assert outcomes == {"timeout", "terminated"}
    assert all(t.scored == (t.outcome == "terminated") for t in group.trajectories)
    assert players.now < 50 * (0.1 + 0.04) + 6
    players.close()


def test_an_episode_that_waits_for_ever_is_a_stuck_simulation() -> None:
    async def for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    loop = VirtualLoop()
    with pytest.raises(TurngymError, match="stuck"):
        loop.run_until_complete(for_ever())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.close()


PAYING = World(LAWS["uniform"], pay=lambda seconds: float(seconds > 3))  # some of the episodes succeed


@settings(max_examples=15)
@given(max_lag=st.integers(0, 3), slots=st.sampled_from([0, 2, 5]), seed=st.integers(0, 99))
def test_a_group_is_played_in_stages_until_a_success(
    tmp_path_factory: pytest.TempPathFactory, max_lag: int, slots: int, seed: int
) -> None:
    staged = run(seed=seed, planner="stages", stages=3, size=6, max_lag=max_lag, slots=slots)
    done = simulate(staged, PAYING, tmp_path_factory.mktemp("run"))
    assert max(done.lags) <= max_lag and [len(batch) for batch in done.batches] == [4] * 12
    sizes = set()
    for group in (g for batch in done.batches for g in batch):
        wins = [t.reward > 0 for t in group.trajectories]
        sizes.add(len(wins))
        assert [t.member for t in group.trajectories] == [*range(group.spec.size)] and group.spec.first == 0
        assert not any(wins[:-2]), "a stage was played after a success"
        assert any(wins) or len(wins) == 6
    assert sizes <= {2, 4, 6} and len(sizes) > 1


@pytest.mark.parametrize("planner", ["stages", "resample"])
def test_what_is_played_of_a_group_does_not_depend_on_time(tmp_path: Path, planner: str) -> None:
    """Without lag the order in which episodes end decides nothing."""

    def by_number(name: str, token: float, slots: int) -> Simulated:
        world = World(lambda rng: float(rng.random()), pay=lambda seconds: float(seconds > 3))
        return simulate(run(planner=planner, size=4, slots=slots), world, tmp_path / name, token=token)

    assert by_number("a", 0.01, 0).batches == by_number("b", 3.0, 3).batches


def test_groups_without_spread_are_replaced_and_counted(tmp_path: Path) -> None:
    done = simulate(run(planner="resample"), PAYING, tmp_path)
    assert [len(batch) for batch in done.batches] == [4] * 12
    assert all(len({t.reward for t in g.trajectories}) > 1 for batch in done.batches for g in batch)
    last = rows(tmp_path)[-1]
    assert last["ledger/dropped"] > 0 and last["ledger/learned"] == 48
    assert last["ledger/started"] == last["ledger/dropped"] + last["ledger/learned"] + last["ledger/open"]
    assert last["ledger/episodes"] == 3 * last["ledger/started"] == last["ledger/turns"] / 5
    assert last["ledger/tokens"] == 4 * last["ledger/turns"]


def test_where_nothing_can_be_learned_resampling_ends(tmp_path: Path) -> None:
    done = simulate(run(planner="resample", resample=2, steps=3), World(LAWS["none"]), tmp_path)
    assert [len(batch) for batch in done.batches] == [4] * 3
    assert rows(tmp_path)[-1]["ledger/dropped"] == 3 * 2 * 4


def test_a_resume_counts_no_episode_twice(tmp_path: Path) -> None:
    """What was played of open groups is played again; the ledger has it once, when they are learned from."""
    asked, saved = run(planner="stages", size=4, max_lag=2, checkpoint_every=1), list[dict[str, Any]]()
    for part in ("a", "b"):
        players = Players(PAYING, seed=0)
        student = Student(players, 1.0)
        with Log(tmp_path / part) as log:
            loop = Loop(asked, student, players, log, Dump(tmp_path / part), clock=lambda players=players: players.now)
            if saved:
                loop.load_state_dict(saved[5])
            loop.play(lambda loop=loop: saved.append(loop.state_dict()))
        players.close()
        learned = sum(len(g.trajectories) for batch in student.batches for g in batch)
        before = saved[5]["played"]["episodes"] if part == "b" else 0
        assert loop.played["episodes"] == before + learned
