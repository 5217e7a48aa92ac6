"""The log: what is written is there at once, and a resumed run cuts both files back to its checkpoint."""

import json
import math
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from turngym.envs import UsageError
from turngym.trainers.log import Log, rows


def events(out: Path, name: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(out))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def written(out: Path, steps: range, *, resume_step: int | None = None, offset: float = 0.0) -> None:
    with Log(out, resume_step) as log:
        for step in steps:
            log.write(step, {"success": step + offset, "note": "words", "tokens": 10 * step})


def test_a_row_is_on_the_disk_before_the_next_step(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.write(1, {"success": 0.5, "note": "words"})
        assert rows(tmp_path) == [{"step": 1, "success": 0.5, "note": "words"}]
        assert events(tmp_path, "success") == [(1, 0.5)]
        log.write(2, {"success": 0.75})
    log.close()
    assert (tmp_path / "log.jsonl").read_text().splitlines()[1] == '{"step": 2, "success": 0.75}'
    assert events(tmp_path, "success") == [(1, 0.5), (2, 0.75)]


def test_a_resumed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    written(tmp_path, range(1, 8))
    written(tmp_path, range(4, 6), resume_step=3, offset=0.5)
    expected = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.5), (5, 5.5)]
    assert [(row["step"], row["success"]) for row in rows(tmp_path)] == expected
    assert events(tmp_path, "success") == expected
    assert [step for step, _ in events(tmp_path, "tokens")] == [1, 2, 3, 4, 5]


def test_a_run_resumed_before_its_first_step_begins_anew(tmp_path: Path) -> None:
    written(tmp_path, range(1, 3))
    written(tmp_path, range(1, 2), resume_step=0)
    assert [row["step"] for row in rows(tmp_path)] == [1]


def test_a_line_torn_by_a_crash_is_dropped(tmp_path: Path) -> None:
    written(tmp_path, range(1, 3))
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 3, "succ')
    written(tmp_path, range(3, 4), resume_step=3)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]


def test_the_log_of_another_run_is_never_overwritten(tmp_path: Path) -> None:
    written(tmp_path, range(1, 3))
    with pytest.raises(UsageError, match="log of another run"):
        Log(tmp_path)
    assert len(rows(tmp_path)) == 2


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path: Path) -> None:
    with Log(tmp_path) as log:
        log.write(1, {"loss": math.nan, "ratio": math.inf, "success": 1.0})
    text = (tmp_path / "log.jsonl").read_text()
    assert json.loads(text) == {"step": 1, "loss": None, "ratio": None, "success": 1.0}
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert accumulator.Tags()["scalars"] == ["success"]


def test_without_tensorboard_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    written(tmp_path, range(1, 3))
    assert capsys.readouterr().err == (
        "turngym: no TensorBoard events, only log.jsonl; they come with: pip install 'turngym[demo]'\n"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


def test_no_log_has_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path) == []
