"""Progress: lines now and then into a file, a bar on a terminal."""

import io

import pytest

from turngym.trainers.progress import Progress


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def step(progress: Progress, success: float = 0.5) -> None:
    progress.update(success=success, reward=0.25, entropy=1.5, tokens_per_second=12_345.6)


def test_a_file_gets_a_line_every_ten_steps_and_at_the_end() -> None:
    out = io.StringIO()
    with Progress(25, stream=out, clock=Clock()) as progress:
        for _ in range(25):
            step(progress)
    lines = out.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["train 10/25", "train 20/25", "train 25/25"]
    assert lines[0] == "train 10/25: success 50.0 %, reward 0.250, entropy 1.500, 12,346 tokens/s, 0:00 left"
    assert "\r" not in out.getvalue()


def test_slow_steps_get_a_line_every_few_seconds_with_the_time_left() -> None:
    out, clock = io.StringIO(), Clock()
    with Progress(1000, done=100, label="warm-up", stream=out, clock=clock) as progress:
        for _ in range(5):
            clock.now += 4.0
            step(progress)
    lines = out.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["warm-up 102/1000", "warm-up 104/1000"]
    assert lines[0].endswith("59:52 left") and lines[1].endswith("59:44 left")


def test_hours_are_told() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(1001, stream=out, clock=clock)
    clock.now += 10.0
    step(progress)
    assert out.getvalue().endswith("2:46:40 left\n")


def test_a_terminal_gets_a_bar_that_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setenv("COLUMNS", "160")
    with Progress(2, stream=out) as progress:
        step(progress, success=0.1)
        step(progress, success=0.9)
    progress.close()
    last = out.getvalue().rstrip("\n").split("\r")[-1]
    assert "train" in last and "2/2" in last and "success 90.0 %" in last and "12,346 tokens/s" in last
    assert out.getvalue().count("\n") == 1
