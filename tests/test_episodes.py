"""Episodes on disk: everything that learning reads comes back exactly; torn, missing and foreign files are said."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.envs import CheckpointError, Image, Message, Text, ToolCall, user
from turngym.trainers.batch import collate
from turngym.trainers.episodes import Dump, count, demonstrations, stored, trajectory_from_json, trajectory_to_json
from turngym.trainers.rollout import Group, Spec, Trajectory

TALK = (
    Message("system", "goal \u2028 \ufdd0"),
    Message("user", (Text("look"), Image(b"\x89PNG\x00"), Text("here"))),
    Message("assistant", "", (ToolCall("1", "f", (("x", 1), ("y", "z"))),)),
    Message("tool", "answer", tool_call_id="1"),
)


def trajectory(logps: tuple[float, ...] = (-0.1, -1e-9), **changes: Any) -> Trajectory:
    request = Request((5, 6, 7), 9, (1,), 0.7, seed=(1, 2), session="s")
    sample = Sample((8, 1)[: len(logps)], logps, (3, 4)[: len(logps)], "stop")
    info = {
        "level": 2,
        "success": True,
        "screenshot": b"png",
        "odd": {1: 2},
        "list": [1, "a", None],
        "kept": {"a": 0.5},
    }
    turn = Turn(TALK, Action("do", (Call("policy", request, sample),)), 0.5, info)
    whole = Trajectory("train.1.0", "task", 7, 1, 0, (turn, turn), user("end"), "terminated")
    return replace(whole, **changes)


def same(one: Trajectory, other: Trajectory) -> None:
    assert replace(one, turns=()) == replace(other, turns=())
    for a, b in zip(one.turns, other.turns, strict=True):
        assert (a.observation, a.action, a.reward) == (b.observation, b.action, b.reward)
        assert b.info == {"level": 2, "success": True, "list": [1, "a", None], "kept": {"a": 0.5}}


@given(st.lists(st.floats(-1e9, 0, allow_nan=False), min_size=1, max_size=2))
def test_a_trajectory_comes_back_exactly(logps: list[float]) -> None:
    whole = trajectory(tuple(logps))
    same(whole, trajectory_from_json(trajectory_to_json(whole)))


def test_updates_come_back_in_their_order_and_train_alike(tmp_path: Path) -> None:
    groups = {
        step: [Group(Spec(step, "task", 7, 2), (trajectory(group=step), trajectory(group=step, member=1, attempt=1)))]
        for step in (1, 2, 10)
    }
    dump = Dump(tmp_path)
    for step, played in groups.items():
        dump.write(step, played, 10)
    with pytest.raises(CheckpointError, match="lacks the episodes of some updates"):
        count(tmp_path)
    Dump(tmp_path, resume_step=2)  # what came after the checkpoint is gone
    found = list(stored(tmp_path))
    assert [(u.step, u.steps) for u in found] == [(1, 10), (2, 10)] and count(tmp_path) == 2
    for step, (group,) in ((u.step, u.groups) for u in found):
        assert group.spec == groups[step][0].spec
        for a, b in zip(groups[step][0].trajectories, group.trajectories, strict=True):
            same(a, b)
        one, other = collate(groups[step][0].trajectories), collate(group.trajectories)
        assert all((one.ids == other.ids).flatten()) and all((one.behaviour == other.behaviour).flatten())


def test_the_same_episodes_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Dump(tmp_path / name).write(1, [Group(Spec(1, "task", 7), (trajectory(),))], 1)
    one, other = ((tmp_path / name / "episodes" / "000001.jsonl.gz").read_bytes() for name in ("a", "b"))
    assert one == other


def test_demonstrations_come_back(tmp_path: Path) -> None:
    Dump(tmp_path).demonstrations([trajectory(source="demonstration")])
    (found,) = demonstrations(tmp_path)
    same(trajectory(source="demonstration"), found)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read episodes"):
        demonstrations(tmp_path)
    Dump(tmp_path).write(1, [Group(Spec(1, "task", 7), (trajectory(),))], 1)
    file = tmp_path / "episodes" / "000001.jsonl.gz"
    data = file.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"no gzip", data[:20] + bytes(9) + data[29:]):
        file.write_bytes(broken)
        with pytest.raises(CheckpointError, match="cannot read episodes from .*000001"):
            list(stored(tmp_path))
    file.write_bytes(gzip.compress(b'{"schema": 99}\n'))
    with pytest.raises(CheckpointError, match="is of schema 99; this turngym reads 1"):
        list(stored(tmp_path))
