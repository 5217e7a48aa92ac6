"""Every curriculum with every planner on the bank: what responses it takes to be as good as an even choice of tasks.

    python benchmarks/curricula.py [--seeds 5] [--updates 80] [--processes 2] [--json FILE]

All runs have GRPO's loss without its KL and a constant learning rate, and learn on 64 tasks that the policy succeeds
in with 1 to 95 % at first. The planner ar3po is stages with reuse (mode II). The goal of each seed is 80 % of what the
run of an even choice and whole groups comes to in the end, and what is counted are the responses generated until then,
those of dropped groups among them; success is exact. Ratios are to that run, paired by seed, with 95 % intervals. A run
that does not come to the goal is a miss, and counts with all its responses: such a ratio is "at least" what is said.
Prints a table and one JSON line.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from turngym.trainers.bank.study import runs
from turngym.trainers.bank.trial import LR, Curve, Setting
from turngym.trainers.bank.verdict import FINAL, interval, needed, quotients
from turngym.trainers.curricula import CURRICULA
from turngym.trainers.files import write_text
from turngym.trainers.machine import machine

SHARE = 0.8  # of the success that an even choice comes to
GRPO = (("kl", 0.0), ("decay", 0.0))
PLANNERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stages": {"planner": "stages"},
    "resample": {"planner": "resample"},
    "ar3po": {"planner": "stages", "reuse": 8},
}
EVEN = ("uniform", "plain")


def arms(updates: int) -> dict[tuple[str, str], Setting]:
    """By curriculum and planner, the even choice of whole groups first."""
    usual = Setting("grpo", GRPO, world="graded", updates=updates)
    names = sorted(((c, p) for c in CURRICULA for p in PLANNERS), key=lambda arm: (arm != EVEN, arm))
    return {(c, p): replace(usual, curriculum=c, **PLANNERS[p]) for c, p in names}


def told(name: tuple[str, str], curves: Sequence[Curve], even: Sequence[Curve]) -> dict[str, Any]:
    """The figures of an arm against the even choice, seed by seed."""
    goals = [SHARE * FINAL.of(curve) for curve in even]
    found = [needed(curve, goal) for curve, goal in zip(curves, goals, strict=True)]
    spent = [c.responses[-1] if n is None else n for c, n in zip(curves, found, strict=True)]
    base = [needed(curve, goal) or 0.0 for curve, goal in zip(even, goals, strict=True)]
    if not all(base):
        sys.exit("the goal is not above where the policy begins: give more --updates")
    return {
        "curriculum": name[0],
        "planner": name[1],
        "responses_to_goal": interval(spent).to_json(),
        "ratio": quotients(spent, base).to_json(),
        "misses": found.count(None),
        "success_at_the_end": interval([FINAL.of(curve) for curve in curves]).to_json(),
        "responses": interval([curve.responses[-1] for curve in curves]).to_json(),
    }


def table(rows: Sequence[dict[str, Any]], seeds: int) -> str:
    lines = [("curriculum", "planner", "responses to goal", "ratio, 95 %", "misses", "success at the end", "responses")]
    for row in rows:
        ratio, end = row["ratio"], row["success_at_the_end"]
        least = "at least " if row["misses"] else ""
        lines.append((
            row["curriculum"],
            row["planner"],
            f"{least}{row['responses_to_goal']['mean']:,.0f}",
            f"{least}× {ratio['mean']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
            f"{row['misses']} of {seeds}",
            f"{end['mean']:.3f} ({end['low']:.3f} to {end['high']:.3f})",
            f"{row['responses']['mean']:,.0f}",
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    said = ("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=80)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    o = parser.parse_args()
    settings = arms(o.updates)
    jobs = [(setting, seed) for seed in range(o.seeds) for setting in settings.values()]
    done = dict(runs(jobs, o.processes, "curricula"))
    curves = {name: [done[setting, seed] for seed in range(o.seeds)] for name, setting in settings.items()}
    rows = [told(name, found, curves[EVEN]) for name, found in curves.items()]
    print(table(rows, o.seeds))
    more = {"share": SHARE, "seeds": o.seeds, "updates": o.updates, "lr": LR, "date": str(datetime.now(UTC).date())}
    figures = {"arms": rows, "baseline": list(EVEN), "world": "graded"} | more | {"machine": machine()}
    if o.json is not None:
        write_text(o.json, json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
