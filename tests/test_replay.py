"""A run killed at any moment and resumed, and a run replayed, equal the whole one bit for bit (rule 10)."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import alive, children, wait

from turngym.agents.tiny import model as shape
from turngym.agents.tiny import tokenizer as words
from turngym.envs import CheckpointError
from turngym.trainers import models
from turngym.trainers.checkpoint import Shelf
from turngym.trainers.episodes import stored
from turngym.trainers.habits import Habits, write
from turngym.trainers.log import rows
from turngym.trainers.recipes import grpo, m_grpo, webagent_r1
from turngym.trainers.replay import replay
from turngym.trainers.run import train
from turngym.trainers.settings import Run

WORLD = '''
import random
import time
import gymnasium as gym
from turngym.envs import Chat, Reply, user

class Even(gym.Env):
    """Pays for actions of an even number of characters, over two turns; a step takes what it takes."""

    def __init__(self):
        self.observation_space, self.action_space = Chat(), Reply(["a"])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 2
        return user(f"price {int(self.np_random.integers(9))}"), {}

    def step(self, action):
        time.sleep(random.SystemRandom().random() * 0.01)
        self.left -= 1
        return user("more"), float(len(action) % 2 == 0), self.left == 0, False, {}

    def cheat(self):
        return "exit(message=\\"done\\")"

gym.register("Twice-v0", entry_point=Even)
'''
TRAIN = """
import json, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from turngym.trainers.recipes import webagent_r1
from turngym.trainers.run import train
if __name__ == "__main__":
    run = replace(webagent_r1(), **json.loads(sys.argv[2]))
    train(run, resume=(Path(run.out) / "run.json").exists())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a world's module and a model's folder."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "twice_world.py").write_text(WORLD)
    (folder / "train.py").write_text(TRAIN)
    tokenizer = words.build()
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    models.save(
        folder / "model", shape.build(len(tokenizer), pad=pad, end=end, seed=0, layers=1, width=32, heads=1), tokenizer
    )
    write(folder / "model", Habits(max_tokens=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


def settings(place: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {
        "env": "twice_world:Twice-v0", "model": str(place / "model"), "out": str(out), "demonstrations": 4,
        "rehearsal": 2, "clone_epochs": 1, "validation": 2, "steps": 5, "groups": 3, "size": 4, "workers": 1,
        "world_threads": 3, "threads": 1,
        "checkpoint_every": 2, "lr": 1e-3,
    } | changes  # fmt: skip


def run(place: Path, out: Path, **changes: Any) -> Run:
    return replace(webagent_r1(), **settings(place, out, **changes))


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """A run that nothing interrupts."""
    out = place / "whole"
    train(run(place, out))
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    return dict(models.load(str(out))[0].state_dict())


def facts(out: Path) -> list[dict[str, Any]]:
    """The log without times and without what a replay does not have."""
    return [{k: v for k, v in row.items() if "second" not in k and not k.startswith("ledger")} for row in rows(out)]


def equal(one: Path, other: Path) -> None:
    assert all(torch.equal(weights(one)[k], v) for k, v in weights(other).items())
    assert facts(one) == facts(other)


def test_a_replay_gives_the_same_weights_without_a_world(place: Path, whole: Path, tmp_path: Path) -> None:
    (place / "twice_world.py").rename(place / "hidden")
    try:
        replay(run(place, tmp_path / "again"), whole)
    finally:
        (place / "hidden").rename(place / "twice_world.py")
    equal(tmp_path / "again", whole)
    start = weights(whole / "warmup")
    assert any(not torch.equal(start[k], v) for k, v in weights(whole).items()), "nothing was learned"


@pytest.mark.parametrize(
    "played_by",
    [
        {"sampler": "vllm", "transfer": "nccl", "servers": ("http://127.0.0.1:1",), "action_seconds": 1.0},
        {"program": "no-such-program", "tasks": 3},
    ],
    ids=str,
)
def test_a_replay_needs_nothing_that_played(
    place: Path, whole: Path, tmp_path: Path, played_by: dict[str, Any]
) -> None:
    replay(run(place, tmp_path / "again", **played_by), whole)
    equal(tmp_path / "again", whole)


def test_a_run_that_was_extended_replays_with_the_decay_that_it_had(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "extended"
    train(run(place, out, steps=2))
    train(run(place, out, steps=4), resume=True)
    assert json.loads((out / "run.json").read_text())["steps"] == 4
    replay(run(place, tmp_path / "again", steps=4), out)
    equal(tmp_path / "again", out)


def test_another_recipe_learns_otherwise_from_the_same_episodes(place: Path, whole: Path, tmp_path: Path) -> None:
    other = replace(run(place, tmp_path / "other"), recipe=m_grpo(clone=0.9))
    replay(other, whole)
    assert any(not torch.equal(weights(whole)[k], v) for k, v in weights(tmp_path / "other").items())
    without = replace(run(place, tmp_path / "grpo"), recipe=grpo(), rehearsal=0)
    replay(without, whole)
    assert any(not torch.equal(weights(tmp_path / "grpo")[k], v) for k, v in weights(tmp_path / "other").items())
    with pytest.raises(CheckpointError, match="a folder of its own"):
        replay(run(place, whole), whole)


def test_every_episode_learned_from_is_stored_once(whole: Path) -> None:
    groups = [g.spec.group for update in stored(whole) for g in update.groups]
    assert groups == [*range(15)]
    assert rows(whole)[-1]["ledger/started"] == rows(whole)[-1]["ledger/learned"] == 15


def test_first_update_is_on_policy(whole: Path) -> None:
    first = rows(whole)[0]
    assert first["clip_fraction"] == 0 and first["mismatch_kl"] < 1e-9 and first["lag_max"] == 0
    assert first["effective_sample_size"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("seed", range(2))
def test_kills_at_any_moment_change_nothing(place: Path, whole: Path, tmp_path: Path, seed: int) -> None:
    """Killed (-9) after random times, four times at most, then left alone."""
    rng, kills = random.Random(seed), 0
    command = [sys.executable, str(place / "train.py"), str(place), json.dumps(settings(place, tmp_path))]
    before = children()
    for attempt in range(5):
        process = subprocess.Popen(command, env=os.environ | {"PYTHONSAFEPATH": "1"}, stderr=subprocess.DEVNULL)
        if attempt == 4:
            assert process.wait(300) == 0
            break
        moment = rng.choice(["run.json", "warmup", "checkpoints", "log.jsonl", "episodes"])
        wait(lambda: process.poll() is not None or (tmp_path / moment).exists(), seconds=300)  # noqa: B023
        time.sleep(rng.random() * 1.5)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        for pid in children() - before:
            wait(lambda: not alive(pid))  # noqa: B023
    assert kills > 0
    equal(tmp_path, whole)
    assert not list(tmp_path.glob(".*")) and len(Shelf(tmp_path).files()) == 2


def test_with_lag_every_episode_is_counted_once_over_an_interruption(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turngym.trainers.study import Study

    learn = Study.learn

    def stop(study: Study, groups: Any, dropped: Any = ()) -> Any:
        if study.version == 3:
            raise KeyboardInterrupt
        return learn(study, groups, dropped)

    lagging = run(place, tmp_path, max_lag=2, steps=6)
    with monkeypatch.context() as patch:
        patch.setattr(Study, "learn", stop)
        with pytest.raises(KeyboardInterrupt):
            train(lagging)
    train(lagging, resume=True)
    groups = [g.spec.group for update in stored(tmp_path) for g in update.groups]
    assert len(groups) == len(set(groups)) == 18
    last = rows(tmp_path)[-1]
    assert last["ledger/started"] == last["ledger/learned"] + last["ledger/open"]
    assert max(row["lag_max"] for row in rows(tmp_path)) <= 2
