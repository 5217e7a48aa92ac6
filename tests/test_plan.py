"""Runs with learners of several processes, in bfloat16, with adapters: they train, resume and leave a plain agent."""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from taught import agent, apart, plan
from test_run import WORLD, facts, settings, stop_at

from turngym.envs import MissingExtra, UsageError
from turngym.trainers import models
from turngym.trainers.habits import Habits, write
from turngym.trainers.learner import Learner
from turngym.trainers.output import Network
from turngym.trainers.recipes import ALGORITHMS, m_grpo, webagent_r1
from turngym.trainers.replay import replay
from turngym.trainers.run import train
from turngym.trainers.settings import Run, check
from turngym.trainers.study import Study


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a world's module and a model's folder."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "plan_world.py").write_text(WORLD.replace("-v0", "-plan-v0"))
    agent(folder / "model", layers=1)
    write(folder / "model", Habits(max_tokens=3))
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def made(place: Path, out: Path, **changes: Any) -> Run:
    return settings(place, out, env="plan_world:Even-plan-v0", **changes)


def saved(out: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = models.load(str(out))[0].state_dict()
    return state


def test_a_run_of_one_process_goes_on_with_two_and_the_reverse(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(made(place, whole, checkpoint_every=1))
    for processes, stop in ((1, 2), (2, 4), (1, 5)):
        with monkeypatch.context() as patch:
            patch.setattr(Study, "learn", stop_at(stop))
            with suppress(KeyboardInterrupt):
                again = made(place, parts, processes=processes, checkpoint_every=1, checkpointing=stop == 4)
                train(again, resume=stop > 2)
    for mine, theirs in zip(facts(parts), facts(whole), strict=True):
        assert mine == pytest.approx(theirs, rel=5e-5, abs=5e-5)
    assert apart(saved(parts), saved(whole)) < 5e-5
    assert apart(saved(whole), saved(place / "model")) > 1e-3


def test_a_run_with_adapters_leaves_a_plain_agent_and_resumes_and_replays(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    how: dict[str, Any] = {"lora": 2, "recipe": m_grpo(kl=0.05)}
    train(made(place, whole, **how))
    with monkeypatch.context() as patch:
        patch.setattr(Study, "learn", stop_at(3))
        with pytest.raises(KeyboardInterrupt):
            train(made(place, parts, **how))
    train(made(place, parts, **how), resume=True)
    assert apart(saved(parts), saved(whole)) == 0 and facts(parts) == facts(whole)
    start = saved(whole / "warmup")
    moved = {name for name, tensor in saved(whole).items() if not torch.equal(tensor, start[name])}
    assert moved and all("proj" in name for name in moved)
    assert {f.name for f in (whole / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert json.loads((whole / "adapter" / "adapter_config.json").read_text())["r"] == 2
    assert all(row["mismatch_kl"] < 1e-9 for row in facts(whole)), "samplers have other weights than the learner"
    run = made(place, tmp_path / "again", **how)
    replay(run, whole)
    assert apart(saved(tmp_path / "again"), saved(whole)) == 0


def test_a_run_in_bfloat16_samples_what_it_learns_from(place: Path, tmp_path: Path) -> None:
    train(made(place, tmp_path, dtype="bfloat16", steps=3))
    rows = facts(tmp_path)
    assert len(rows) == 3 and all(0 < row["mismatch_kl"] < 1e-3 for row in rows)
    assert {t.dtype for t in saved(tmp_path).values()} == {torch.float32}
    assert apart(saved(tmp_path), saved(place / "model")) > 1e-3
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16"),
        ({"processes": 0}, "processes must be at least 1"),
        ({"lora": -1}, "lora cannot be negative"),
        ({"micro_tokens": -1}, "micro_tokens cannot be negative"),
        ({"processes": 2, "device": "cpu:0"}, "without a number"),
        ({"processes": 2, "recipe": ALGORITHMS["ppo"](), "rehearsal": 0}, "leave out processes"),
        ({"dtype": "bfloat16", "lora": 4}, "merged weights.* leave out lora or dtype"),
        ({"dtype": "bfloat16", "recipe": ALGORITHMS["archer"](), "rehearsal": 0}, "trained on weights of its own"),
    ],
    ids=lambda case: ",".join(case) if isinstance(case, dict) else case,
)
def test_what_cannot_be_combined_is_one_line(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why) as error:
        check(replace(webagent_r1(), **changes))
    assert "\n" not in str(error.value)


def test_adapters_want_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"pip install 'turngym\[peft\]'"):
        check(Run(recipe=webagent_r1().recipe, lora=4))


def test_a_plain_plan_is_a_plain_learner(place: Path) -> None:
    learner = plan(str(place / "model"), micro=0).learner()
    assert type(learner) is Learner and type(learner.network) is Network and learner.micro_tokens == 2048
