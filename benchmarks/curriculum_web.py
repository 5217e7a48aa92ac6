"""Curricula and planners on the main job's web tasks: environment steps and success, beside tasks drawn evenly.

    python benchmarks/curriculum_web.py [--seeds 3] [--steps 60] [--arms uniform,spread,uniform+stages] [--json FILE]

The main job's recipe in a smaller run: the web shop's levels 1 and 2, 8 groups an update, a shorter warm-up, which is
the same for all arms of a seed. Every tenth update is measured on the same held-out shops, greedily. Counted are the
environment steps (turns) of all episodes that were played, those of dropped groups among them, until a run has 95 % of
what uniform's gained over the warm-up by its end. Started again it goes on where it stopped.
"""

import argparse
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from turngym.trainers import models
from turngym.trainers.bank.verdict import interval, quotients
from turngym.trainers.checkpoint import Shelf, load
from turngym.trainers.evaluate import Evaluation
from turngym.trainers.files import write_text
from turngym.trainers.habits import habits, write
from turngym.trainers.log import rows
from turngym.trainers.machine import machine
from turngym.trainers.parts import Parts
from turngym.trainers.recipes import webagent_r1
from turngym.trainers.run import WARMUP
from turngym.trainers.settings import Run

ENV, LEVELS, EPISODES, EVERY, SHARE = "turngym/WebShop-v0", (1, 2), 200, 10, 0.95
BASE = "uniform"
ARMS = (BASE, "spread", "bins", "vade", "sec", "dump", f"{BASE}+stages", "spread+stages")


def run(arm: str, seed: int, steps: int, out: Path) -> Run:
    """An arm is a curriculum, and perhaps a planner."""
    curriculum, _, planner = arm.partition("+")
    return replace(
        webagent_r1(), env=ENV, levels=LEVELS, steps=steps, groups=8, demonstrations=100, clone_epochs=5, validation=40,
        browser_every=0, checkpoint_every=EVERY, keep=steps, threads=1, seed=seed, curriculum=curriculum,
        planner=planner or "plain", out=str(out / f"{arm} {seed}"),
    )  # fmt: skip


def curve(one: Run, name: str, parts: Parts) -> list[tuple[int, float]]:
    """Environment steps so far and success, after the warm-up and after every tenth update."""
    parts.train(name, one)
    out, found = Path(one.out), list[tuple[int, float]]()
    spent = {row["step"]: row["ledger/turns"] for row in rows(one.out)}
    for file in sorted(Shelf(out).files()):
        state = load(file)
        step, folder = state["step"], out / "measured"

        def keep(state: dict[str, object] = state, folder: Path = folder) -> None:
            network, words = models.load(str(out / WARMUP))
            models.save(folder, network, words, state["study"]["learner"]["model"])  # type: ignore[index]
            write(folder, habits(str(out / WARMUP)))

        keep()
        ask = Evaluation(env=ENV, agent=str(folder), engine="parser", episodes=EPISODES, levels=LEVELS)
        found.append((spent.get(step, 0), parts.report(f"{name}, update {step}", ask).success.mean))
    return found


def needed(points: list[tuple[int, float]], goal: float) -> float | None:
    """Environment steps until success first is ``goal``, linear between measures; None where it never is."""
    for (x, a), (y, b) in zip(points, points[1:], strict=False):
        if b >= goal:
            return x + max(0.0, goal - a) / (b - a) * (y - x) if b > a else float(x)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--out", default="runs/curriculum_web")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    out, arms = Path(options.out), options.arms.split(",")
    parts, seeds = Parts(out / "parts"), range(options.seeds)
    curves = {
        arm: [curve(run(arm, s, options.steps, out), f"{arm} {s}", parts) for s in seeds]
        for arm in (BASE, *(a for a in arms if a != BASE))
    }
    goals = [c[0][1] + SHARE * (c[-1][1] - c[0][1]) for c in curves[BASE]]
    base = [needed(c, goal) or 0.0 for c, goal in zip(curves[BASE], goals, strict=True)]
    if not all(base):
        sys.exit(f"{BASE} gained nothing over the warm-up for some seed: give it more --steps")
    told = []
    for arm, found in curves.items():
        spent = [needed(c, goal) for c, goal in zip(found, goals, strict=True)]
        least = [s or float(c[-1][0]) for s, c in zip(spent, found, strict=True)]  # a miss has taken all its steps
        ratio, end = quotients(least, base), interval([c[-1][1] for c in found])
        told.append({
            "arm": arm, "steps_to_goal": spent, "misses": sum(s is None for s in spent),
            "ratio": ratio.to_json(), "success_at_the_end": end.to_json(),
            "steps": [c[-1][0] for c in found], "curves": found,
        })  # fmt: skip
        shown = f"x {ratio.mean:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        print(f"{arm:16} {shown:24} misses {told[-1]['misses']}  end {100 * end.mean:.1f} %  steps {told[-1]['steps']}")
    result = {
        "benchmark": "curriculum_web", "date": datetime.now(UTC).date().isoformat(), "levels": LEVELS, "goals": goals,
        "updates": options.steps, "share": SHARE, "arms": told, "machine": machine(),
    }  # fmt: skip
    if options.json:
        write_text(Path(options.json), json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
