"""The same training runs with vLLM and with the torch sampler: what both reach, from the same seeds.

    TURNGYM_VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/vllm_training.py [--seeds 3] [--steps 20]

The main job's recipe in a smaller run: the web shop's levels 1 and 2, 8 groups an update, a shorter warm-up. Every run
is measured on held-out shops, greedily, by the torch sampler. Prints one JSON line; started again it goes on where it
stopped.
"""

import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from turngym.trainers.bank.verdict import interval
from turngym.trainers.evaluate import Evaluation
from turngym.trainers.log import rows
from turngym.trainers.machine import machine
from turngym.trainers.parts import Parts
from turngym.trainers.recipes import webagent_r1
from turngym.trainers.settings import Run

ENV, LEVELS, EPISODES, LAST = "turngym/WebShop-v0", (1, 2), 200, 5  # the last updates, whose success is shown
SAMPLERS = ("torch", "vllm")


def runs(seeds: int, steps: int, out: Path) -> dict[str, list[Run]]:
    whole = replace(
        webagent_r1(), env=ENV, levels=LEVELS, steps=steps, groups=8, demonstrations=100, clone_epochs=5,
        validation=40, browser_every=0, checkpoint_every=steps, threads=1,
    )  # fmt: skip
    return {
        kind: [replace(whole, sampler=kind, seed=seed, out=str(out / f"{kind}-{seed}")) for seed in range(seeds)]
        for kind in SAMPLERS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", default="runs/vllm_training")
    options = parser.parse_args()
    out = Path(options.out)
    asked = runs(options.seeds, options.steps, out)
    parts = Parts(out / "parts")
    parts.claim(*(run for some in asked.values() for run in some))
    found = {}
    for kind, some in asked.items():
        start, end, logs = [], [], []
        for run in some:
            parts.train(f"{kind} {run.seed}", run)
            for folder, values in ((f"{run.out}/warmup", start), (run.out, end)):
                ask = Evaluation(env=ENV, agent=folder, engine="parser", episodes=EPISODES, levels=LEVELS)
                values.append(parts.report(f"{Path(folder).name} of {kind} {run.seed}", ask).success.mean)
            logs.append(rows(run.out))
        found[kind] = {
            "after_the_warmup": start,
            "after_training": end,
            "mean": interval(end).to_json(),
            f"training_success_last_{LAST}": round(fmean(r["success"] for log in logs for r in log[-LAST:]), 3),
            "mismatch_kl_max": max(abs(r.get("mismatch_kl") or 0.0) for log in logs for r in log),
            "failed_share_max": max(1 - r.get("outcome/terminated", 0) - r.get("outcome/truncated", 0)
                                    for log in logs for r in log),
            "seconds_an_update": round(fmean(sum(r[f"seconds/{p}"] for p in ("wait", "learn", "other"))
                                             for log in logs for r in log), 2),
        }  # fmt: skip
    pairs = zip(found["vllm"]["after_training"], found["torch"]["after_training"], strict=True)
    print(json.dumps({
        "benchmark": "vllm_training", "date": datetime.now(UTC).date().isoformat(), "levels": LEVELS,
        "steps": options.steps, "episodes_a_measure": EPISODES, **found,
        "vllm_minus_torch": interval([a - b for a, b in pairs]).to_json(), "machine": machine(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
