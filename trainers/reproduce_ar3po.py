"""AR3PO's claims (arXiv 2509.25808) on a bank of tasks of graded difficulty."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..envs import UsageError
from .bank.trial import LR, Curve, Setting, trial
from .bank.verdict import FINAL, NO_WORSE, Expected, Interval, after, decide, differences, interval, quotients
from .parts import Parts
from .progress import Progress
from .reproduce import Claim, Reproduction

SEEDS = 5  # paired runs of each arm
Curves = Mapping[str, Sequence[Curve]]
"""Of each arm, by seed."""


def _arm(recipe: str, changes: Mapping[str, Any] | None = None, **more: Any) -> Setting:
    """80 updates of 16 groups of up to 8 on 64 tasks, drawn evenly: each comes 20 times on the average, and more often
    where groups are dropped.

    The learning rate is constant, so that a run cut short is a shorter run.
    """
    said = {"decay": 0.0, **(changes or {})}
    plan = {"world": "graded", "updates": 80, "groups": 16, "size": 8, "curriculum": "uniform", **more}
    return Setting(recipe, tuple(said.items()), **plan)


DAPO, GRPO, ONE, TWO, LONG = "DAPO", "GRPO", "AR3PO-I", "AR3PO-II", "AR3PO-II, longer"
ARMS = {
    GRPO: _arm("grpo", {"kl": 0.0}),
    DAPO: _arm("dapo", planner="resample", resample=10),
    ONE: _arm("ar3po", {"kl": 0.0, "reused": True}, planner="stages", stages=2, reuse=8),
    TWO: _arm("ar3po", {"kl": 0.0}, planner="stages", stages=2, reuse=8),
    LONG: _arm("ar3po", {"kl": 0.0}, planner="stages", stages=2, reuse=8, updates=320),
    "stages alone": _arm("ar3po", {"kl": 0.0}, planner="stages", stages=2),
    "reuse alone": _arm("ar3po", {"kl": 0.0}, reuse=8),
}
FIGURES = ("success", "entropy", "responses", "tokens")  # of a curve, stored for each update


def ar3po(settings: Reproduction) -> list[Claim]:
    """AR3PO (arXiv 2509.25808): both modes beside GRPO, DAPO with dynamic sampling, and each mechanism alone.

    The paper's policies are language models on mathematics; ours is a table on 64 combination locks that it opens at
    first with 1 to 95 %, so that success is exact. The seeds are ``settings.seed`` and the next four, and the same for
    each arm. All settings were fixed before the first run; DAPO drops at most ten groups for each that it keeps.
    """
    out = Path(settings.out or "runs/reproduce/ar3po")
    curves = _curves(Parts(out / "parts"), settings.seed)
    print(table(curves))
    return claims(curves)


def claims(curves: Curves) -> list[Claim]:
    """What the paper says of mode II, of its cost, and of the modes.

    A success is no worse if the lower 95 % bound of the paired difference is above -0.03. Against GRPO success is
    compared at equal responses: GRPO's when it had generated as many as the whole run of AR3PO. A longer run of AR3PO
    is compared with the whole of DAPO's when it had generated half as many, or at its end if that comes first.
    """
    ends = {name: [FINAL.of(c) for c in runs] for name, runs in curves.items()}
    spent = {name: [c.responses[-1] for c in runs] for name, runs in curves.items()}
    ours = [c.success[-1] for c in curves[TWO]]
    there = [after(c, n) for c, n in zip(curves[GRPO], spent[TWO], strict=True)]
    half = [after(c, min(n / 2, c.responses[-1])) for c, n in zip(curves[LONG], spent[DAPO], strict=True)]
    whole = [c.success[-1] for c in curves[DAPO]]
    fewer = quotients(spent[DAPO], spent[TWO])
    paper, even = "matches or beats it", "AR3PO's success is not below DAPO's in as many updates"
    saved = "with half of DAPO's generated responses or less"
    return [
        _differ(even, paper, ends[TWO], ends[DAPO], NO_WORSE),
        Claim(saved, "up to 4.2 times fewer", _times(fewer), fewer.low >= 2),
        _differ("nor when it goes on to half of DAPO's responses", paper, half, whole, NO_WORSE),
        _differ("AR3PO above GRPO at equal generated responses", "above it", ours, there, Expected(low=0.0)),
        _differ("mode II is not below mode I", "mode II is better", ends[TWO], ends[ONE], NO_WORSE),
    ]


def table(curves: Curves) -> str:
    """For people: a line for each arm, means over seeds with 95 % intervals."""
    dapo = [c.responses[-1] for c in curves[DAPO]]
    lines = [("arm", "success at the end", "responses", "tokens", "groups dropped", "DAPO's responses by these")]
    for name, runs in curves.items():
        spent, tokens = [float(c.responses[-1]) for c in runs], [float(c.tokens[-1]) for c in runs]
        cost = "" if name == DAPO else _times(quotients(dapo, spent))
        dropped = interval([c.dropped for c in runs]).mean
        end = interval([FINAL.of(c) for c in runs])
        figures = (f"{interval(spent).mean:,.0f}", f"{interval(tokens).mean:,.0f}", f"{dropped:,.0f}")
        lines.append((name, _span(end), *figures, cost))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(row.rstrip() for row in rows)


def _curves(parts: Parts, first: int) -> dict[str, list[Curve]]:
    """What is not there yet is run. Raises UsageError for a folder of other settings."""
    ours = {"seed": first, "seeds": SEEDS, "lr": LR, "arms": {name: arm.title for name, arm in ARMS.items()}}
    if parts.get("settings", lambda: ours) != ours:
        raise UsageError(f"{parts.folder.parent} holds a run with other settings: remove it, or choose another --out")
    found: dict[str, list[Curve]] = {name: [] for name in ARMS}
    with Progress(SEEDS * len(ARMS), label="ar3po") as progress:
        for seed in range(first, first + SEEDS):
            for name, arm in ARMS.items():
                said = parts.get(f"{name}, seed {seed}", partial(_run, arm, seed))
                found[name].append(_curve(said))
                progress.step(f"{name}, seed {seed}: success {100 * found[name][-1].success[-1]:.1f} %")
    return found


def _curve(said: Mapping[str, Any]) -> Curve:
    success, entropy, responses, tokens = (tuple(said[key]) for key in FIGURES)
    return Curve(success, entropy, responses=responses, tokens=tokens, dropped=said["dropped"])


def _run(arm: Setting, seed: int) -> dict[str, Any]:
    curve = trial(arm, seed)
    return {key: list(getattr(curve, key)) for key in FIGURES} | {"dropped": curve.dropped}


def _differ(claim: str, paper: str, ours: Sequence[float], other: Sequence[float], expected: Expected) -> Claim:
    gap = differences(ours, other)
    said = f"{interval(ours).mean:.3f} against {interval(other).mean:.3f}: {_span(gap, '+')}"
    return Claim(claim, paper, said, decide(gap, expected) == "holds")


def _span(gap: Interval, sign: str = "") -> str:
    return f"{gap.mean:{sign}.3f} ({gap.low:{sign}.3f} to {gap.high:{sign}.3f})"


def _times(gap: Interval) -> str:
    return f"{gap.mean:.2f} ({gap.low:.2f} to {gap.high:.2f}) times"
