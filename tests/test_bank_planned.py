"""Trials with a curriculum, a planner and reuse: as the loop plans them, repeated, and counted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from turngym.envs import UsageError
from turngym.trainers.bank import Bank, Corridor, Player, Wordy
from turngym.trainers.bank.planned import Ledger, Planned
from turngym.trainers.bank.trial import GRADED, Setting, trial
from turngym.trainers.bank.verdict import after, differences, needed, quotients
from turngym.trainers.curricula import CURRICULA
from turngym.trainers.episodes import Dump
from turngym.trainers.log import Log
from turngym.trainers.loop import Loop
from turngym.trainers.planner import planner
from turngym.trainers.recipes import RUNS
from turngym.trainers.rollout import Begun, Group, Spec

WORLDS = [Bank(), Wordy(), Corridor(), Corridor(wind=0.4, name="windy")]
each_world = pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.name)
GRPO = (("kl", 0.0),)
TINY = Setting("grpo", GRPO, updates=4, groups=4, size=4)


def specs(world, *numbers: int, **more: int) -> list[Spec]:
    return [Spec(g, f"{world.name} {g % 2}", g % 2, **({"size": 6} | more)) for g in numbers]


@each_world
def test_an_episode_is_the_same_whatever_is_played_with_it(world) -> None:
    player, table = Player(world, 0), world.logits()
    whole = player.parts(table, 0, specs(world, 3, 1, 8))
    assert [g.spec for g in whole] == specs(world, 3, 1, 8)
    for spec, group in zip(specs(world, 3, 1, 8), whole, strict=True):
        (alone,) = player.parts(table, 0, [spec])
        first, second = player.parts(table, 0, [replace(spec, size=2), replace(spec, first=2, size=4)])
        assert alone == group and first.trajectories + second.trajectories == group.trajectories
        assert [t.member for t in group.trajectories] == [*range(6)]
        assert {(t.task, t.seed, t.group) for t in group.trajectories} == {(spec.task, spec.seed, spec.group)}


@each_world
def test_groups_members_and_seeds_have_numbers_of_their_own(world) -> None:
    table, asked = world.logits(), specs(world, 0, 2, size=8)
    played = Player(world, 0).parts(table, 0, asked)
    said = [tuple(t.turns) for group in played for t in group.trajectories]
    assert len(set(map(repr, said))) > 8
    assert Player(world, 1).parts(table, 0, asked) != played
    assert [t.turns for t in played[0].trajectories] != [t.turns for t in played[1].trajectories]


@each_world
def test_parts_succeed_as_often_as_the_table_says(world) -> None:
    exact = world.success(np.exp(world.logits() - np.log(np.exp(world.logits()).sum(-1, keepdims=True))))
    (group,) = Player(world, 5).parts(world.logits(), 0, [Spec(0, f"{world.name} 1", 1, 600)])
    found = np.mean([t.reward for t in group.trajectories])
    assert abs(found - exact[1]) < 4.5 * np.sqrt(exact[1] * (1 - exact[1]) / 600) + 1e-3


def test_parts_that_cannot_be_are_errors() -> None:
    player, table = Player(Bank(), 0), Bank().logits()
    for asked in ([], [Spec(0, "bank 99", 0, 2)], [Spec(0, "bank 0", 0, 2, greedy=True)],
                  [Spec(0, "bank 0", 0, 2, baseline=True)]):  # fmt: skip
        with pytest.raises(UsageError, match="parts to play"):
            player.parts(table, 0, asked)


class Played:
    """The bank's player as the loop knows players; the weights stay."""

    worlds: Mapping[str, Any] = {}

    def __init__(self, world: Bank, seed: int) -> None:
        self.player, self.table, self.heard = Player(world, seed), world.logits(), list[Group | Begun]()

    def submit(self, asked: Sequence[Spec]) -> None:
        own = [replace(s, seed=int(s.task.split()[1])) for s in asked]  # a task of the bank has one seed
        self.heard += [Begun(s.group, 0) for s in asked]
        self.heard += self.player.parts(self.table, 0, own) if own else []

    def collect(self, count: int) -> list[Group]:
        raise AssertionError("there is no browser")

    def hear(self, wait: bool = True) -> list[Group | Begun]:
        heard, self.heard = self.heard, []
        return heard

    def publish(self, tensors: Mapping[str, Tensor], version: int) -> None: ...


class Watched:
    """Who is taught nothing but what curricula are, and writes down what it was given."""

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self.curriculum, self.version = CURRICULA["spread"](names, seed), 0
        self.given = list[list[Group]]()

    def draw(self, group: int) -> str:
        return self.curriculum.draw(group)

    def weights(self) -> dict[str, Tensor]:
        return {}

    def learn(self, groups: Sequence[Group], dropped: Sequence[Group] = ()) -> dict[str, Any]:
        self.given.append(list(groups))
        self.curriculum.update(sorted([*groups, *dropped], key=lambda g: g.spec.group))
        self.version += 1
        return {"success": 0.0, "reward": 0.0, "seconds/learn": 0.0}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@pytest.mark.parametrize("name", ["plain", "stages", "resample"])
def test_updates_learn_from_what_the_loop_gives_them(name, tmp_path) -> None:
    """The same groups of the same episodes in the same order, and the same number of dropped ones."""
    world = Bank(odds=(0.02, 0.2, 0.6, 0.95))
    run = replace(RUNS["grpo"](), planner=name, groups=3, size=4, steps=5, resample=2, browser_every=0, seed=2)
    players = Played(world, 2)
    student = Watched(players.player.names, 2)
    with Log(tmp_path) as log:
        loop = Loop(run, student, players, log, Dump(tmp_path))
        loop.play(lambda: None)
    ledger, curriculum = Ledger(), CURRICULA["spread"](players.player.names, 2)
    plan = planner(name, groups=3, size=4, stages=2, most=2)
    planned = Planned(players.player, plan, ledger, groups=3, size=4, curriculum=curriculum)
    for given in student.given:
        assert planned.batch(players.table, 0, 0) == [t for g in given for t in g.trajectories]
    assert (ledger.responses, ledger.tokens) == (loop.played["episodes"], loop.played["tokens"])
    assert ledger.dropped == loop.dropped and (name == "resample") is bool(ledger.dropped)


SETTINGS = [
    replace(TINY, curriculum="uniform"),
    replace(TINY, planner="stages"),
    replace(TINY, planner="resample", resample=2),
    replace(TINY, recipe="ar3po", planner="stages", reuse=4),
    replace(TINY, recipe="ar3po", options=(*GRPO, ("reused", True)), reuse=4, lag=1),
    *(replace(TINY, curriculum=name, updates=2) for name in CURRICULA),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.title)
def test_a_planned_run_repeats_itself(setting) -> None:
    one, two, other = (trial(setting, seed) for seed in (3, 3, 4))
    assert (one.success, one.responses, one.tokens, one.dropped) == (
        two.success, two.responses, two.tokens, two.dropped
    )  # fmt: skip
    assert one.success != other.success
    assert len(one.success) == len(one.responses) == len(one.tokens) == setting.updates + 1
    assert one.tokens == tuple(3 * n for n in one.responses)


def test_responses_are_counted_with_those_of_dropped_groups() -> None:
    plain, stages, resample = (
        trial(replace(TINY, planner=name, curriculum="uniform"), 0) for name in ("plain", "stages", "resample")
    )
    assert plain.responses == (0, 16, 32, 48, 64) == trial(TINY, 0).responses
    assert plain.success != trial(TINY, 0).success, "planned runs have random numbers of their own"
    assert stages.responses[-1] < 64 and stages.dropped == plain.dropped == 0
    assert resample.responses[-1] == 64 + 4 * resample.dropped > 64


def test_a_greedy_baseline_is_generated_and_a_demonstration_is_not() -> None:
    assert trial(replace(TINY, recipe="remax", options=()), 0).responses[-1] == 4 * 4 * 5
    assert trial(replace(TINY, recipe="chord", options=(), shown=4), 0).responses[-1] == 64


def test_one_stage_s_first_update_is_the_plain_one_with_fewer_members() -> None:
    """Groups are paired: those that need both stages are the same episodes."""
    world, table = GRADED, GRADED.logits()
    made = [
        Planned(Player(world, 0), planner(name, groups=16, size=8, stages=2, most=10), Ledger(), groups=16, size=8)
        for name in ("plain", "stages")
    ]
    plain, stages = (planned.play(table, 0)[0] for planned in made)
    for whole, part in zip(plain, stages, strict=True):
        assert part.trajectories == whole.trajectories[: len(part.trajectories)]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (replace(TINY, stages=4), "stages is of the planner stages"),
        (replace(TINY, planner="stages", resample=4), "resample is of the planner resample"),
        (replace(TINY, planner="stages", stages=3), "not played in 3 stages"),
        (replace(TINY, curriculum="unifrom"), "did you mean uniform"),
        (replace(TINY, planner="stages", shown=4), "go with plain groups"),
        (replace(TINY, reuse=2, probes=4), "go with plain groups"),
        (replace(TINY, recipe="remax", options=(), planner="stages"), "greedy"),
        (replace(TINY, recipe="reinforce", options=(), reuse=2), "does not read what is reused"),
        (replace(TINY, recipe="ar3po", options=(("reused", True),)), "earlier successes"),
        (replace(TINY, planner="stages", stages=TINY.size), "leave one alone"),
        (replace(TINY, recipe="reinforce", options=(), planner="resample"), "equal returns teach"),
        (replace(TINY, planner="resample", resample=0), "at least 1"),
    ],
)
def test_what_cannot_be_planned_is_an_error(setting, says) -> None:
    with pytest.raises(UsageError, match=says):
        trial(setting, 0)


def test_success_by_responses() -> None:
    curve = replace(trial(replace(TINY, updates=1), 0), success=(0.2, 0.4, 0.3, 0.8), responses=(0, 10, 30, 40))
    assert (needed(curve, 0.2), needed(curve, 0.3), needed(curve, 0.9)) == (0.0, pytest.approx(5), None)
    assert needed(curve, 0.55) == pytest.approx(35)
    assert (after(curve, 0), after(curve, 20), after(curve, 40)) == (0.2, pytest.approx(0.35), 0.8)
    with pytest.raises(UsageError, match="40 responses"):
        after(curve, 41)


def test_pairs_are_compared_by_differences_or_quotients() -> None:
    gap = differences([0.5, 0.9], [0.4, 0.8])
    assert gap.mean == pytest.approx(0.1) and gap.high - gap.low < 1e-9
    times = quotients([8.0, 18.0], [2.0, 4.5])
    assert times.mean == pytest.approx(4) == pytest.approx(times.low)
