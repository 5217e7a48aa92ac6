"""The learning curve: a picture that shows every row, level and mark it was given."""

import struct
from pathlib import Path

import numpy as np
import pytest

from turngym.envs import UsageError
from turngym.trainers.plot import Mark, learning_curve, running_mean
from turngym.trainers.statistics import interval

ROWS = [
    {"step": step, "success": step / 40, "success/1": None if step < 5 else 0.5, "success/2": 0.1}
    for step in range(1, 41)
]


def size(path: Path) -> tuple[int, int]:
    """(width, height) of a PNG, which must be one."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_a_png_comes_out_whole(tmp_path: Path) -> None:
    marks = [Mark("start", interval(1, 20)), Mark("final", interval(19, 20))]
    learning_curve(ROWS, tmp_path / "new" / "curve.png", marks)
    assert size(tmp_path / "new" / "curve.png") == (1350, 750)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["curve.png"]


@pytest.mark.parametrize("rows", [ROWS[:1], [{"step": 1, "success": None}], [{"step": 1, "loss": 2.0}]])
def test_the_shortest_logs_are_drawn(tmp_path: Path, rows: list[dict[str, float | None]]) -> None:
    learning_curve(rows, tmp_path / "curve.png")
    assert size(tmp_path / "curve.png") == (1350, 750)


def test_what_is_given_is_in_the_picture(tmp_path: Path) -> None:
    def drawn(name: str, rows: list[dict[str, float | None]], marks: list[Mark]) -> bytes:
        learning_curve(rows, tmp_path / name, marks)
        return (tmp_path / name).read_bytes()

    whole = [{"step": row["step"], "success": row["success"]} for row in ROWS]
    mark = Mark("start", interval(1, 20))
    pictures = [drawn("a", ROWS, [mark]), drawn("b", ROWS, []), drawn("c", whole, [mark]), drawn("d", ROWS[:20], [])]
    assert len(set(pictures)) == 4
    assert drawn("a", ROWS, [mark]) == pictures[0]


def test_an_empty_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row yet"):
        learning_curve([], tmp_path / "curve.png")
    assert list(tmp_path.iterdir()) == []


def test_the_running_mean_looks_back_only() -> None:
    np.testing.assert_allclose(running_mean([1.0, 2.0, 3.0, 10.0], 2), [1.0, 1.5, 2.5, 6.5])
    np.testing.assert_allclose(running_mean([1.0, 2.0, 3.0], 1), [1.0, 2.0, 3.0])
