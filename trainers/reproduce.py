"""``turngym reproduce``: a paper's claims held against runs of our own, at the level of mechanisms.

No pretrained weights are used: a tiny policy on the embedded sites stands for the paper's models, so what is compared
is the direction and order of effects, never their size.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..envs import UsageError
from .files import write_text
from .options import doc, unknown
from .statistics import Rate, Z


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What to reproduce with."""

    seed: int = field(default=0, metadata=doc("root of all randomness"))
    out: str = field(default="", metadata=doc("folder of the runs; none: runs/reproduce/PAPER"))


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim in words, the paper's figures, ours, and whether ours bear it out."""

    claim: str
    paper: str
    ours: str
    holds: bool

    def to_json(self) -> dict[str, str]:
        return {"claim": self.claim, "paper": self.paper, "ours": self.ours, "verdict": self.verdict}

    @property
    def verdict(self) -> str:
        return "holds" if self.holds else "fails"


Paper = Callable[[Reproduction], Sequence[Claim]]


def reproduce(name: str, settings: Reproduction, papers: Mapping[str, Paper], json_file: str | None = None) -> None:
    """Runs what is not there yet, prints the table and writes the claims to ``json_file``.

    Raises UsageError for an unknown paper or a seed below 0.
    """
    if name not in papers:
        raise UsageError(unknown("paper", name, sorted(papers)))
    if settings.seed < 0:
        raise UsageError(f"seed must be at least 0, not {settings.seed}")
    claims = papers[name](settings)
    print(f"\n{show(claims)}")
    if json_file is not None:
        write_text(Path(json_file), json.dumps([claim.to_json() for claim in claims], indent=2) + "\n")


def show(claims: Sequence[Claim]) -> str:
    """The claims as an aligned table, a row each."""
    rows = [("claim", "paper", "ours", "verdict"), *((c.claim, c.paper, c.ours, c.verdict) for c in claims)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [" | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


def above(high: Rate, low: Rate) -> bool:
    """Whether the first share is larger beyond chance: the lower 95 % bound of the difference is above 0.

    The interval is Newcombe's, from two Wilson intervals (R. G. Newcombe, "Interval estimation for the difference
    between independent proportions", Statistics in Medicine 17 (1998), method 10).
    """
    down: float = ((high.mean - high.low) ** 2 + (low.high - low.mean) ** 2) ** 0.5
    return high.mean - low.mean - down > 0


def gains(before: tuple[Rate, Rate], after: tuple[Rate, Rate]) -> bool:
    """Whether the step of ``after`` (from, to) is larger than that of ``before`` beyond chance, by normal errors."""
    errors = sum(r.mean * (1 - r.mean) / r.episodes for r in (*before, *after))
    difference = (after[1].mean - after[0].mean) - (before[1].mean - before[0].mean)
    return bool(difference > Z * errors**0.5)


def percent(rate: Rate) -> str:
    return f"{100 * rate.mean:.1f}"
