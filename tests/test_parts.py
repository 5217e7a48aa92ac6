"""Finished phases: done once, kept with their seconds, refused for other settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from turngym.envs import Failure, UsageError
from turngym.trainers import parts as module
from turngym.trainers.evaluate import Evaluation
from turngym.trainers.parts import Parts
from turngym.trainers.recipes import RUNS
from turngym.trainers.report import Report, Score, report
from turngym.trainers.run import SETTINGS, Trained
from turngym.trainers.settings import Run

GOLD = Evaluation(env="turngym/WebShop-v0", agent="gold", engine="parser", episodes=2, levels=(1,), workers=1)


def runs(out: Path) -> list[Run]:
    return [replace(make(), out=str(out / name)) for name, make in RUNS.items()]


def test_finished_phases_are_not_run_again(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"a": len(made)}

    assert Parts(tmp_path).get("start", make) == {"a": 1}
    parts = Parts(tmp_path)
    assert parts.get("start", make) == {"a": 1} and len(made) == 1
    assert parts.get("start, later", make) == {"a": 2} and len(made) == 2
    assert parts.seconds.keys() == {"start", "start, later"} and min(parts.seconds.values()) >= 0


def test_the_seconds_are_those_of_the_first_time(tmp_path: Path) -> None:
    Parts(tmp_path).get("start", dict)
    file = tmp_path / "start.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seconds": 123.5}))
    parts = Parts(tmp_path)
    parts.get("start", dict)
    assert parts.seconds == {"start": 123.5}


def test_an_interrupted_phase_is_run_again(tmp_path: Path) -> None:
    def stop() -> dict[str, int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Parts(tmp_path).get("start", stop)
    assert list(tmp_path.iterdir()) == [] and Parts(tmp_path).get("start", lambda: {"a": 2}) == {"a": 2}


def test_a_folder_is_claimed_by_its_settings(tmp_path: Path) -> None:
    ours = runs(tmp_path)
    for _ in range(2):
        Parts(tmp_path / "parts").claim(*ours)
    others = (
        [replace(ours[0], seed=1), *ours[1:]],
        [ours[0], replace(ours[1], levels=(1,)), *ours[2:]],
        ours[:2],
        ours[::-1],
        [replace(run, out=f"{run.out}2") for run in ours],
    )
    for other in others:
        with pytest.raises(UsageError) as caught:
            Parts(tmp_path / "parts").claim(*other)
        line = f"{tmp_path} holds a run with other settings: remove it, or choose another --out"
        assert str(caught.value) == line
    Parts(tmp_path / "parts").claim(*ours)


def test_a_report_is_measured_once_and_comes_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = replace(GOLD, max_turns=(1, 9))
    first = Parts(tmp_path).report("gold", asked)
    assert (first.success.mean, first.success.episodes, list(first.by_max_turns)) == (1.0, 2, ["1", "9"])
    said = capsys.readouterr().out.splitlines()
    assert said == ["gold: 2 episodes in the parser engine …", f"gold: {first.success}"]

    def never(evaluation: Evaluation) -> Report:
        raise AssertionError("a second measurement")

    monkeypatch.setattr(module, "evaluate", never)
    again = Parts(tmp_path).report("gold", asked)
    assert again.to_json() == first.to_json() and again.seconds == first.seconds > 0
    assert capsys.readouterr().out.splitlines() == said[1:]
    with pytest.raises(AssertionError):
        Parts(tmp_path).report("silver", asked)


def test_an_evaluation_that_fails_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(evaluation: Evaluation) -> Report:
        raise Failure("no episode could be scored")

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate", failing)
        with pytest.raises(Failure):
            Parts(tmp_path).report("gold", GOLD)
    score = [Score("add_one", 2, True, 4, "terminated")]
    monkeypatch.setattr(module, "evaluate", lambda asked: report(score, environment="", seconds=1.0))
    assert Parts(tmp_path).report("gold", GOLD).success.mean == 1.0


def test_training_goes_on_from_a_checkpoint_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, resumed = runs(tmp_path)[0], []

    def train(run: Run, *, resume: bool) -> Trained:
        resumed.append(resume)
        Path(run.out).mkdir(exist_ok=True)
        (Path(run.out) / SETTINGS).touch()
        if len(resumed) == 1:
            raise KeyboardInterrupt
        return Trained(run.out, 2.0, 5.0, 0.5)

    monkeypatch.setattr(module, "train", train)
    with pytest.raises(KeyboardInterrupt):
        Parts(tmp_path / "parts").train("r1", run)
    for _ in range(2):
        assert Parts(tmp_path / "parts").train("r1", run) == {"warmup_seconds": 2.0, "seconds": 5.0}
    assert resumed == [False, True]
    assert capsys.readouterr().out == "r1: training took 7 s\n" * 2
