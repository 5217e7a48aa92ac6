"""The loop at max_lag 0 is deterministic, resumes exactly, and stops on failures (rules 3, 7, 10)."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from turngym.agents.tiny import model as shape
from turngym.agents.tiny import tokenizer as words
from turngym.envs import CheckpointError, EnvError, Failure, UsageError
from turngym.trainers import checkpoint, models
from turngym.trainers.episodes import stored
from turngym.trainers.habits import Habits, habits, write
from turngym.trainers.player import Setting
from turngym.trainers.recipes import ALGORITHMS, webagent_r1
from turngym.trainers.replay import replay
from turngym.trainers.rollout import Spec
from turngym.trainers.run import WARMUP, train, worlds
from turngym.trainers.settings import Run
from turngym.trainers.study import Study
from turngym.trainers.workers import Workers

WORLD = '''
import os
import gymnasium as gym
from turngym.envs import Chat, EnvError, Reply, user

class Even(gym.Env):
    """Pays for actions whose characters are a multiple of ``of``, over two turns; fails where the seed says so."""

    def __init__(self, broken=0, of=2):
        self.observation_space, self.action_space, self.broken, self.of = Chat(), Reply(["a"]), broken, of

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 2
        return user(f"price {int(self.np_random.integers(9))}"), {}

    def step(self, action):
        if self.broken and self.np_random.random() < self.broken:
            raise EnvError("the world broke")
        self.left -= 1
        return user("more"), float(len(action) % self.of == 0), self.left == 0, False, {}

gym.register("Even-v0", entry_point=Even)
gym.register("Rare-v0", entry_point=Even, kwargs={"of": 9})
gym.register("Broken-v0", entry_point=Even, kwargs={"broken": 0.9})
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a world's module and a model's folder."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "even_world.py").write_text(WORLD)
    tokenizer = words.build()
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    model = shape.build(len(tokenizer), pad=pad, end=end, seed=0, layers=1, width=32, heads=1)
    models.save(folder / "model", model, tokenizer)
    write(folder / "model", Habits(max_tokens=3))
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def settings(place: Path, out: Path, **changes: Any) -> Run:
    run = replace(webagent_r1(), env="even_world:Even-v0", model=str(place / "model"), out=str(out), demonstrations=0)
    run = replace(run, steps=4, groups=3, size=4, workers=1, threads=1, checkpoint_every=2, lr=1e-3)
    return replace(run, **changes)


def weights(out: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint.Shelf(out).newest()["study"]["learner"]["model"]
    return state


def facts(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def stop_at(step: int) -> Any:
    """A ``Study.learn`` that the user interrupts before the update ``step``."""
    learn = Study.learn

    def stop(study: Study, groups: Any, dropped: Any = ()) -> Any:
        if study.version + 1 == step:
            raise KeyboardInterrupt
        return learn(study, groups, dropped)

    return stop


def test_a_run_is_deterministic_and_resumes_bit_for_bit(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again, parts = tmp_path / "whole", tmp_path / "again", tmp_path / "parts"
    train(settings(place, whole))
    train(settings(place, again))
    with monkeypatch.context() as patch:
        patch.setattr(Study, "learn", stop_at(3))
        with pytest.raises(KeyboardInterrupt):
            train(settings(place, parts))
    train(settings(place, parts), resume=True)
    start = models.load(str(place / "model"))[0].state_dict()
    assert any(not torch.equal(start[k], v) for k, v in weights(whole).items()), "nothing was learned"
    for other in (again, parts):
        assert all(torch.equal(weights(other)[k], v) for k, v in weights(whole).items())
        assert facts(other) == facts(whole)
    assert len(facts(whole)) == 4 and facts(whole)[0]["lag_max"] == 0
    trained, _ = models.load(str(parts))
    assert all(torch.equal(trained.state_dict()[k], v) for k, v in weights(whole).items())


@pytest.mark.parametrize("name", ["ppo_max", "archer", "remax"])
def test_critics_scales_and_baselines_resume_bit_for_bit(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, whole, parts = ALGORITHMS[name](), tmp_path / "whole", tmp_path / "parts"
    train(settings(place, whole, recipe=recipe, rehearsal=0))
    with monkeypatch.context() as patch:
        patch.setattr(Study, "learn", stop_at(4))
        with pytest.raises(KeyboardInterrupt):
            train(settings(place, parts, recipe=recipe, rehearsal=0))
    train(settings(place, parts, recipe=recipe, rehearsal=0), resume=True)
    assert all(torch.equal(weights(parts)[k], v) for k, v in weights(whole).items())
    assert facts(parts) == facts(whole) and len(facts(whole)) == 4
    for group in (g for update in stored(whole) for g in update.groups):
        *sampled, last = group.trajectories if name == "remax" else (*group.trajectories, None)
        assert len(sampled) == 4 and {t.source for t in sampled} == {"policy"}
        if last is not None:
            assert last.source == "greedy" and {c.request.temperature for t in last.turns for c in t.action.calls} == {
                0
            }


def test_a_planned_run_resumes_and_replays_bit_for_bit(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages, reuse and a curriculum of its own: what they know is in the checkpoint, and a replay reuses the same."""
    plan = {"stages": 2, "planner": "stages", "seeds": 2, "reuse": 4, "curriculum": "vade"}
    changes = plan | {"env": "even_world:Rare-v0", "recipe": ALGORITHMS["dapo"](), "rehearsal": 0}
    whole, parts, again = (settings(place, tmp_path / name, **changes) for name in "abc")
    train(whole)
    with monkeypatch.context() as patch:
        patch.setattr(Study, "learn", stop_at(4))
        with pytest.raises(KeyboardInterrupt):
            train(parts)
    train(parts, resume=True)
    replay(again, whole.out)
    for other in (parts, again):
        there = models.load(other.out)[0].state_dict()
        assert all(torch.equal(there[k], v) for k, v in models.load(whole.out)[0].state_dict().items())
    rows = facts(tmp_path / "a")
    assert facts(tmp_path / "b") == rows
    assert sum(row["reused"] for row in rows) > 0, "no group needed an earlier success"
    assert 4 * 3 * 2 < rows[-1]["ledger/episodes"] < 4 * 3 * 4
    played = [g for update in stored(whole.out) for g in update.groups]
    assert {g.spec.seed for g in played} == {g.spec.seed for g in played[:2]}
    assert {t.source for g in played for t in g.trajectories} == {"policy"}, "what is reused is no episode"


def test_a_bounded_lag_is_kept_and_learns_as_many_updates(place: Path, tmp_path: Path) -> None:
    train(settings(place, tmp_path, max_lag=1, steps=5))
    rows = facts(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert max(row["lag_max"] for row in rows) == 1


def test_too_many_failures_stop_the_run_with_a_message(place: Path, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="of 12 episodes failed .*env_error"):
        train(settings(place, tmp_path, env="even_world:Broken-v0"))


def test_a_checkpoint_of_another_run_or_a_torn_one_is_refused(place: Path, tmp_path: Path) -> None:
    train(settings(place, tmp_path, steps=0))
    with pytest.raises(CheckpointError, match="lr 0.001 there, 0.5 here"):
        train(settings(place, tmp_path, lr=0.5), resume=True)
    (file,) = checkpoint.Shelf(tmp_path).files()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="torn or corrupt"):
        train(settings(place, tmp_path), resume=True)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train(settings(place, tmp_path / "empty"), resume=True)


def test_settings_out_of_range_are_refused(place: Path, tmp_path: Path) -> None:
    for changes in ({"size": 1}, {"steps": -1}, {"max_lag": -1}, {"levels": (1,)}, {"engine": "parser"}) + tuple(
        {name: wrong}
        for name, wrong in (("seed", -1), ("lr", 0.0), ("temperature", 0.0), ("max_failures", 1.0), ("device", "gpu"))
        + (("max_turns", -1), ("max_turns", 3), ("prompt", "thinking"), ("memory", "elephant"))
    ):
        with pytest.raises(UsageError):
            train(settings(place, tmp_path, **changes))
    with pytest.raises(UsageError, match="no gold actions"):
        train(settings(place, tmp_path, demonstrations=5))
    with pytest.raises(UsageError, match="no environment"):
        train(settings(place, tmp_path, env="nowhere:Nothing-v0"))


def test_a_run_takes_memory_prompt_and_turns_from_its_settings(place: Path, tmp_path: Path) -> None:
    model = str(place / "model")
    run = replace(settings(place, tmp_path), env="turngym/WebShop-v0", max_turns=4, prompt="thinking", engine="parser")
    made = {name: dict(options) for name, options in worlds(run, habits(model, prompt=run.prompt)).items()}
    said = {"engine": "parser", "instructions": True, "max_turns": 4, "prompt": "thinking"}
    assert made["train"] == said | {"split": "train"} and made["validation"] == said | {"split": "validation"}
    plain = dict(worlds(replace(run, max_turns=0, prompt="", browser_every=0), habits(model))["train"])
    assert plain == {"engine": "parser", "instructions": True, "prompt": "plain", "split": "train"}


def test_the_saved_agent_keeps_the_habits_that_it_was_trained_with(place: Path, tmp_path: Path) -> None:
    changes = {"env": "turngym/WebShop-v0", "levels": (1,), "prompt": "thinking", "memory": "full", "browser_every": 0}
    train(settings(place, tmp_path, **changes, demonstrations=13, clone_epochs=1, validation=2, steps=0))
    for folder in (tmp_path, tmp_path / WARMUP):
        said = habits(str(folder))
        assert (said.memory, said.prompt, said.instructions) == ("full", "thinking", True)
        assert 10 < said.max_tokens < 30  # as long as its longest demonstration, where the model was used to 3


def test_a_killed_worker_is_noticed_and_nothing_hangs(place: Path) -> None:
    setting = Setting("even_world:Even-v0", (("train", ()),), str(place / "model"))
    with Workers(setting, 1) as workers:
        workers.submit([Spec(0, "", 0, 2)])
        assert len(workers.collect(1)[0].trajectories) == 2
        os.kill(workers._processes[0].pid or 0, signal.SIGKILL)
        workers.submit([Spec(1, "", 0, 2)])
        with pytest.raises(EnvError, match="worker ended"):
            workers.collect(1)
