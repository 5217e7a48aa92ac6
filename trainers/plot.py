"""The learning curve as a picture."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.errors import UsageError, extra
from .files import write_bytes
from .statistics import Rate

# Okabe and Ito's colours, which colour-blind readers can tell apart: levels, then marks; black is the whole.
LEVELS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
MARKS = ("#7F7F7F", "#D55E00", "#111111")


@dataclass(frozen=True, slots=True)
class Mark:
    """An evaluation, drawn as a horizontal line with its interval: ``Mark("after the warm-up", rate)``."""

    label: str
    rate: Rate


def learning_curve(log_rows: Sequence[Mapping[str, Any]], path: Path | str, marks: Sequence[Mark] = ()) -> None:
    """Draw training success against updates and write it as PNG to ``path``.

    Rows are those of ``log.jsonl``: ``step``, ``success`` and any ``success/LEVEL``, shares in [0, 1] or None.
    Points are the updates, lines running means over a twentieth of the run. Raises UsageError without a row,
    MissingExtra without matplotlib.
    """
    if not log_rows:
        raise UsageError(f"nothing to draw in {path}: the log has no row yet")
    figure = extra("matplotlib.figure", "demo").Figure(figsize=(9, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    last = max(row["step"] for row in log_rows)
    _draw_success(axes, log_rows, "success", "all levels", "black", 2.4)
    levels = sorted({name for row in log_rows for name in row if name.startswith("success/")})
    for i, name in enumerate(levels):
        label = f"level {name.removeprefix('success/')}"
        _draw_success(axes, log_rows, name, label, LEVELS[i % len(LEVELS)], 1.4)
    _draw_marks(axes, marks)
    _style(axes, last)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    write_bytes(path, data.getvalue())


def running_mean(values: Sequence[float], window: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The mean of each value and those before it, ``window`` at most: [N] -> [N]."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=np.float64)]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _draw_success(
    axes: Any, rows: Sequence[Mapping[str, Any]], name: str, label: str, colour: str, width: float
) -> None:
    points = [(row["step"], 100 * row[name]) for row in rows if row.get(name) is not None]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    if name == "success":  # the levels' points would only be noise on noise
        axes.plot(steps, values, ".", color=colour, markersize=4, alpha=0.25, markeredgewidth=0)
    smooth = running_mean(values, max(1, len(values) // 20))
    # Wider lines lie above thinner ones, whichever came first.
    axes.plot(steps, smooth, color=colour, linewidth=width, label=label, zorder=width + 1, solid_capstyle="round")


def _draw_marks(axes: Any, marks: Sequence[Mark]) -> None:
    for i, mark in enumerate(marks):
        colour = MARKS[i % len(MARKS)]
        axes.axhspan(100 * mark.rate.low, 100 * mark.rate.high, color=colour, alpha=0.12, linewidth=0, zorder=0.5)
        label = f"{mark.label}: {mark.rate}"
        axes.axhline(100 * mark.rate.mean, color=colour, linewidth=1.2, linestyle="--", label=label, zorder=0.6)


def _style(axes: Any, last: int) -> None:
    axes.set_xlim(0, max(last, 1))
    axes.set_ylim(0, 102)
    axes.set_xlabel("updates")
    axes.set_ylabel("episodes that succeed, %")
    axes.set_title("Training success, and evaluations with 95 % intervals", loc="left", fontsize=11)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
