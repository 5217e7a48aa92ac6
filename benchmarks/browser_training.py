"""The same training run twice: in Chromium and with the parser engine. What both reach, and what it costs.

    python benchmarks/browser_training.py [--steps 60] [--out runs/browser_training] > FILE

Both start from the same demonstrations and seeds, and are measured in Chromium on held-out data. A smaller run than
the demonstration's: levels 1 and 2. Prints one JSON line; started again it goes on where it stopped.
"""

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from turngym.trainers.evaluate import Evaluation
from turngym.trainers.log import rows
from turngym.trainers.machine import machine
from turngym.trainers.parts import Parts
from turngym.trainers.recipes import webagent_r1
from turngym.trainers.reproduce import above

LEVELS, LAST = (1, 2), 10  # levels; updates whose mean success is shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", default="runs/browser_training")
    options = parser.parse_args()
    out, found = Path(options.out), {}
    whole = replace(webagent_r1(), levels=LEVELS, steps=options.steps, groups=12, browser_every=0)
    runs = {engine: replace(whole, engine=engine, out=str(out / engine)) for engine in ("browser", "parser")}
    parts = Parts(out / "parts")
    parts.claim(*runs.values())
    rates = {}
    for engine, run in runs.items():
        trained = parts.train(f"{engine}, train", run)
        ask = Evaluation(agent=run.out, engine="browser", episodes=200, levels=LEVELS)
        report = parts.report(f"{engine}, tested in Chromium", ask)
        rates[engine] = report.success
        log = rows(run.out)
        found[engine] = report.to_json() | {
            "train_seconds": round(trained["seconds"], 1),
            "warmup_seconds": round(trained["warmup_seconds"], 1),
            "play_seconds_an_update": round(sum(row["seconds/play"] for row in log) / len(log), 2),
            f"training_success_last_{LAST}": round(sum(row["success"] for row in log[-LAST:]) / LAST, 3),
        }
    figures = {
        "benchmark": "browser_training",
        "date": datetime.now(UTC).date().isoformat(),
        "levels": LEVELS,
        "steps": options.steps,
        **found,
        "parser_beats_browser_beyond_chance": above(rates["parser"], rates["browser"]),
        "machine": machine(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
