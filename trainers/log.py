"""What a run writes down: ``log.jsonl``, one dict a step, and the same numbers as TensorBoard events."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..envs.errors import MissingExtra, UsageError, extra
from .files import write_text

NAME = "log.jsonl"
Row = dict[str, Any]


def rows(out: Path | str) -> list[Row]:
    """The rows of the log in folder ``out``, oldest first, up to a line that a crash tore; none without a log."""
    path = Path(out) / NAME
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        found.append(row)
    return found


class Log:
    """The log of the run in folder ``out``; a context manager.

    A new run (``resume_step`` None) starts an empty log, and a log that is already there is a UsageError. A
    resumed one keeps the rows of the steps up to its checkpoint's, ``resume_step``, and repeats those in new events
    in place of the old. Without TensorBoard one line on stderr says so and only ``log.jsonl`` is written.
    """

    def __init__(self, out: Path | str, resume_step: int | None = None) -> None:
        self.out = Path(out)
        kept = rows(self.out)
        if resume_step is None and kept:
            raise UsageError(f"{self.out / NAME} is the log of another run: resume that, or choose another folder")
        kept = [row for row in kept if row["step"] <= (resume_step or 0)]
        write_text(self.out / NAME, "".join(map(_line, kept)))
        for stale in self.out.glob("events.out.tfevents.*"):
            stale.unlink()
        self._events = _events(self.out)
        self._file = open(self.out / NAME, "a", encoding="utf-8")
        for row in kept:
            self._scalars(row)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append ``values`` (numbers, words or what JSON holds) of ``step``; both files are flushed.

        A number that is not finite becomes null and no event. Raises OSError when the disk is full.
        """
        row = {"step": step, **{name: _finite(value) for name, value in values.items()}}
        self._file.write(_line(row))
        self._file.flush()
        self._scalars(row)

    def close(self) -> None:
        """Close both files; may be called twice."""
        self._file.close()
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _scalars(self, row: Row) -> None:
        if self._events is None:
            return
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                self._events.add_scalar(name, value, row["step"])
        self._events.flush()


def _events(out: Path) -> Any:
    """TensorBoard's writer, or None and a line on stderr."""
    try:
        return extra("torch.utils.tensorboard", "demo").SummaryWriter(str(out))
    except MissingExtra:
        print(
            f"turngym: no TensorBoard events, only {NAME}; they come with: pip install 'turngym[demo]'",
            file=sys.stderr,
        )
        return None


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
