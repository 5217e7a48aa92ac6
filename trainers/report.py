"""What an evaluation found, for machines (JSON) and for people (a table)."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..envs.errors import Failure
from .rollout import SCORED, Outcome
from .statistics import Rate, interval


@dataclass(frozen=True, slots=True)
class Score:
    """One episode: its task's template and level, whether it succeeded, its turns, how it ended."""

    template: str
    level: int
    success: bool
    turns: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Usage:
    """What an endpoint was asked and has said that it used."""

    requests: int  # that were answered
    retries: int
    read: int  # tokens of prompts
    written: int  # tokens of answers
    cost: float | None  # in the currency of the prices; None when none were said


@dataclass(frozen=True, slots=True)
class Report:
    """Shares of successes with 95 % intervals over the episodes that could be scored.

    Failures of the world, the agent's machinery or a deadline are no failures of the policy (rule 3): they
    are counted in ``outcomes`` and nowhere else.
    """

    environment: str
    success: Rate
    by_level: Mapping[str, Rate]
    by_template: Mapping[str, Rate]
    turns: float  # mean over the scored episodes
    outcomes: Mapping[str, int]
    seconds: float  # wall time
    by_max_turns: Mapping[str, "Report"] = field(default_factory=dict)  # when several limits were asked for
    usage: Usage | None = None  # of an agent behind an endpoint

    @property
    def failures(self) -> int:
        """Episodes that could not be scored."""
        return sum(count for outcome, count in self.outcomes.items() if outcome not in SCORED)

    def to_json(self) -> dict[str, Any]:
        """Exactly success, by_level, by_template, turns, outcomes, by_max_turns if there were several, usage if any."""
        data: dict[str, Any] = {
            "success": self.success.to_json(),
            "by_level": {name: rate.to_json() for name, rate in self.by_level.items()},
            "by_template": {name: rate.to_json() for name, rate in self.by_template.items()},
            "turns": self.turns,
            "outcomes": dict(self.outcomes),
        }
        if self.by_max_turns:
            data["by_max_turns"] = {name: report.to_json() for name, report in self.by_max_turns.items()}
        if self.usage:
            data["usage"] = asdict(self.usage)
        return data


def report(scores: Sequence[Score], *, environment: str, seconds: float, usage: Usage | None = None) -> Report:
    """Count ``scores``. Raises Failure when not one of them could be scored."""
    outcomes: dict[str, int] = dict(sorted(Counter(score.outcome for score in scores).items()))
    scored = [score for score in scores if score.outcome in SCORED]
    if not scored:
        raise Failure(f"no episode could be scored: {_counts(outcomes) or 'none was played'}")
    return Report(
        environment=environment,
        success=_rate(scored),
        by_level=_rates(scored, lambda score: score.level),
        by_template=_rates(scored, lambda score: score.template),
        turns=sum(score.turns for score in scored) / len(scored),
        outcomes=outcomes,
        seconds=seconds,
        usage=usage,
    )


def from_json(data: Mapping[str, Any], *, environment: str = "", seconds: float = 0.0) -> Report:
    """The report that ``to_json`` wrote; what it does not hold is given beside it."""

    def rates(part: Mapping[str, Mapping[str, Any]]) -> dict[str, Rate]:
        return {name: Rate(**rate) for name, rate in part.items()}

    return Report(
        environment=environment,
        success=Rate(**data["success"]),
        by_level=rates(data["by_level"]),
        by_template=rates(data["by_template"]),
        turns=data["turns"],
        outcomes=data["outcomes"],
        seconds=seconds,
        by_max_turns={name: from_json(part) for name, part in data.get("by_max_turns", {}).items()},
        usage=Usage(**data["usage"]) if "usage" in data else None,
    )


def limits(reports: Mapping[int, Report]) -> Report:
    """One report of several turn limits: that of the largest, and each of them in ``by_max_turns``."""
    if len(reports) == 1:
        return next(iter(reports.values()))
    ordered = {str(limit): reports[limit] for limit in sorted(reports)}
    seconds = sum(report.seconds for report in reports.values())
    used = _sum([report.usage for report in reports.values() if report.usage])
    return replace(reports[max(reports)], by_max_turns=ordered, seconds=seconds, usage=used)


def _sum(parts: Sequence[Usage]) -> Usage | None:
    if not parts:
        return None
    counts = {name: sum(getattr(part, name) for part in parts) for name in ("requests", "retries", "read", "written")}
    costs = [part.cost for part in parts if part.cost is not None]
    return Usage(**counts, cost=sum(costs) if costs else None)


def table(reports: Mapping[str, Report]) -> str:
    """``reports`` by name as aligned text: overall, by level, turns, failures, time, tokens; then by template."""
    rows = {name: part for name, whole in reports.items() for name, part in _split(name, whole).items()}
    levels = _names(report.by_level for report in rows.values())
    head = ["", "success", *(f"level {level}" for level in levels), "turns", "episodes", "failed", "seconds"]
    priced = any(row.usage and row.usage.cost is not None for row in rows.values())
    used = ["read", "written", *(["cost"] if priced else [])] if any(row.usage for row in rows.values()) else []
    lines = [head + used]
    for name, row in rows.items():
        rates = [row.success, *(row.by_level.get(level) for level in levels)]
        seconds = f"{row.seconds:.0f}" if row.seconds else "–"
        counts = [f"{row.turns:.1f}", str(row.success.episodes), str(row.failures), seconds]
        lines.append([name, *map(_cell, rates), *counts, *(_used(row.usage, name) for name in used)])
    templates = _names(report.by_template for report in rows.values())
    below = [["template", *rows]]
    below += [[name, *(_cell(row.by_template.get(name)) for row in rows.values())] for name in templates]
    failed = [f"{name}: {_counts(row.outcomes)}" for name, row in rows.items() if row.failures]
    return "\n\n".join(part for part in (_align(lines), _align(below), "\n".join(failed)) if part)


def _split(name: str, whole: Report) -> dict[str, Report]:
    """A row for each turn limit, or one."""
    if not whole.by_max_turns:
        return {name: whole}
    return {f"{name}, {limit} turns": part for limit, part in whole.by_max_turns.items()}


def _rate(scores: Sequence[Score]) -> Rate:
    return interval(sum(score.success for score in scores), len(scores))


def _rates(scores: Sequence[Score], key: Callable[[Score], int | str]) -> dict[str, Rate]:
    names = sorted({key(score) for score in scores}, key=lambda name: (isinstance(name, str), name))
    return {str(name): _rate([score for score in scores if key(score) == name]) for name in names}


def _names(columns: Iterable[Mapping[str, Rate]]) -> list[str]:
    """Every name of any report, each once, numbers in their order."""
    names = {name for column in columns for name in column}
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def _cell(rate: Rate | None) -> str:
    return "–" if rate is None else str(rate)


def _used(usage: Usage | None, name: str) -> str:
    value = getattr(usage, name, None)
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())


def _align(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return "\n".join(lines)
