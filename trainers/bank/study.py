"""``turngym study``: what papers say of their algorithms, held against paired runs on the bank."""

import json
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import as_completed as completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ...envs import UsageError
from ..catalog import paper
from ..files import write_text
from ..machine import machine
from ..options import doc
from ..progress import Progress
from ..recipes import ALGORITHMS
from .claims import CLAIMS, LAGS
from .picture import picture
from .trial import LR, Curve, Setting, trial
from .verdict import FINAL, Claim, Found, interval, judge

Job = tuple[Setting, int]  # and its seed
# not in the sweep: ArCHer's critic takes a second an update, for turns that the bank has one of, and AR3PO's loss is
# GRPO's, but for the planner that the sweep has not
APART = ("archer", "ar3po")


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What to study."""

    seeds: int = field(default=5, metadata=doc("paired runs of each setting, at least 2"))
    claims: str = field(default="", metadata=doc("regular expression that the names of claims match; all by default"))
    out: str = field(default="runs/study", metadata=doc("folder of the picture"))
    processes: int = field(default=2, metadata=doc("runs at once"))

    def __post_init__(self) -> None:
        if self.seeds < 2 or self.processes < 1:
            raise UsageError("a study needs --seeds of at least 2 and --processes of at least 1")


@dataclass(frozen=True, slots=True)
class Answers:
    """What a study found."""

    found: tuple[Found, ...]
    curves: Mapping[Setting, tuple[Curve, ...]]  # by seed
    seconds: float


def study(questions: Questions, file: str | None = None) -> Answers:
    """Runs what the claims need, and every recipe at every lag if all are asked for; prints the table, draws the
    curves into ``questions.out`` and writes the figures to ``file``.

    Raises UsageError for a pattern that no claim matches.
    """
    start, claims = time.monotonic(), chosen(questions.claims)
    settings = {s: None for claim in claims for s in (claim.ours, claim.other)}
    if not questions.claims:
        settings |= {s: None for s in sweep()}
    jobs = [(setting, seed) for seed in range(questions.seeds) for setting in settings]
    done = dict(runs(jobs, questions.processes))
    curves = {s: tuple(done[s, seed] for seed in range(questions.seeds)) for s in settings}
    found = tuple(judge(claim, curves[claim.ours], curves[claim.other]) for claim in claims)
    answers = Answers(found, curves, time.monotonic() - start)
    print(table(found))
    if file is not None:
        write_text(file, json.dumps(to_json(answers, questions), indent=2) + "\n")
    if drawn := picture(curves, Path(questions.out) / "study.png"):
        print(f"curves: {drawn}")
    return answers


def chosen(pattern: str) -> list[Claim]:
    """Raises UsageError for a pattern that is none, or that matches no claim."""
    try:
        found = [claim for claim in CLAIMS if re.search(pattern, claim.name)]
    except re.error as error:
        raise UsageError(f"--claims {pattern!r} is no regular expression: {error}") from None
    if not found:
        raise UsageError(f"no claim matches {pattern!r}; there are {', '.join(c.name for c in CLAIMS)}")
    return found


def sweep() -> list[Setting]:
    """Every recipe on the bank at every lag, but for those ``APART``."""
    return [Setting(name, lag=lag) for name in ALGORITHMS if name not in APART for lag in LAGS]


def runs(jobs: Sequence[Job], processes: int, label: str = "study") -> Iterator[tuple[Job, Curve]]:
    """Each job's curve, in the order in which they end; ``processes`` at once."""
    with Progress(len(jobs), label=label) as progress:
        if processes == 1:
            for job in jobs:
                yield job, trial(*job)
                progress.step(job[0].title)
            return
        with ProcessPoolExecutor(processes, get_context("spawn"), _deaf) as pool:
            asked = {pool.submit(trial, *job): job for job in jobs}
            try:
                for future in completed(asked):
                    yield asked[future], future.result()
                    progress.step(asked[future][0].title)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _deaf() -> None:
    """A worker is ended by the process that began it, and not by the user's interrupt as well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def table(found: Sequence[Found]) -> str:
    """For people: a line for each claim."""
    names = ("claim", "paper", "measure", "ours", "other", "difference or quotient, 95 %", "verdict")
    lines = [names]
    for f in found:
        c = f.claim
        ours, other = f"{c.ours.label} {f.ours.mean:.3g}", f"{c.other.label} {f.other.mean:.3g}"
        gap = f"× {f.gap}" if c.measure.ratio else str(f.gap)
        lines.append((c.name, paper(ALGORITHMS[c.ours.recipe]), c.measure.name, ours, other, gap, f.verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    rows = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
    counts = ", ".join(f"{sum(f.verdict == v for f in found)} {v}" for v in ("holds", "fails", "unclear"))
    return "\n".join([*(row.rstrip() for row in rows), counts])


def page(told: Mapping[str, Any]) -> str:
    """The figures of ``to_json`` as the docs show them: markdown, a line for each claim, in the order of the file."""
    lines = [
        "| claim | paper | ours | other | measure | difference or quotient, 95 % | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for c in told["claims"]:
        gap = c.get("difference") or c["quotient"]
        sign = "" if "difference" in c else "× "
        ours, other = (f"{c[side]['setting']}: {c[side]['mean']:.3g}" for side in ("ours", "other"))
        span = f"{sign}{gap['mean']:.3g} ({gap['low']:.3g} to {gap['high']:.3g})"
        lines.append(f"| {c['says']} | {c['paper']} | {ours} | {other} | {c['measure']} | {span} | {c['verdict']} |")
    return "\n".join(lines)


def to_json(answers: Answers, questions: Questions) -> dict[str, Any]:
    """For machines: claims with their figures, and where each recipe ended at each lag."""
    return {
        "claims": [_claim(f) for f in answers.found],
        "success_at_the_end": [
            {"setting": s.title} | interval([FINAL.of(c) for c in curves]).to_json()
            for s, curves in answers.curves.items()
            if not s.probes
        ],
        "seeds": questions.seeds,
        "lr": LR,
        "seconds": round(answers.seconds, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
    }


def _claim(f: Found) -> dict[str, Any]:
    c = f.claim
    return {
        "claim": c.name,
        "paper": paper(ALGORITHMS[c.ours.recipe]),
        "says": c.says,
        "measure": c.measure.name,
        "ours": {"setting": c.ours.title} | f.ours.to_json(),
        "other": {"setting": c.other.title} | f.other.to_json(),
        "quotient" if c.measure.ratio else "difference": f.gap.to_json(),
        "verdict": f.verdict,
    }
