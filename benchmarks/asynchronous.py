"""Training with a bounded lag beside synchronous training, in a world that waits: how much sooner it is as good.

    python benchmarks/asynchronous.py [--seeds 5] [--steps 60] [--out runs/asynchronous]

The world is the embedded forum, one task of five turns, each step of which also waits: log-normal, median 200 ms, p99
5 s. 64 episodes run at once in one process. Synchronous training waits for the slowest of each update's 64 episodes,
but its episodes do not wait for each other's turns (``--no-exact``). Both start from the same clone and are paired by
seed; a pair runs at the same time, a core each. What is compared is the time until the mean success of five updates in
a row reaches the goal. Prints one JSON line; started again it goes on where it stopped.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import geometric_mean

from turngym.trainers.log import rows
from turngym.trainers.machine import machine

WORLD = '''
import time
import gymnasium as gym
import numpy as np
from turngym.envs.web.forum import WebForum

MEDIAN, P99 = 0.2, 5.0  # seconds
SIGMA = np.log(P99 / MEDIAN) / 2.3263478740408408

class Waiting(WebForum):
    """The forum, a step of which takes its time; demonstrations and validation do not wait."""

    def __init__(self, wait=True, split="train", engine="parser", instructions=True, prompt="plain", **more):
        more.pop("level", None)
        super().__init__(task="TASK", split=split, engine=engine, instructions=instructions, prompt=prompt, **more)
        self.waits = wait and split == "train"

    def step(self, action):
        if self.waits:
            time.sleep(float(np.random.default_rng().lognormal(np.log(MEDIAN), SIGMA)))
        return super().step(action)

gym.register("Waiting-v0", entry_point=Waiting)
'''
TASK, GOAL, ROW = "comment_one", 0.8, 5  # task of five turns; success; updates in a row
COMMON = (
    "--env waiting_forum:Waiting-v0 --engine parser --demonstrations 24 --clone-epochs 4 --validation 40 --groups 8"
    " --size 8 --workers 1 --threads 1 --slots 64 --world-threads 64 --browser-every 0 --checkpoint-every 20"
).split()
MODES = {"synchronous": ["webagent_r1", "--no-exact"], "asynchronous": ["webagent_r1_async", "--max-lag", "4"]}
COMMAND = [sys.executable, "-c", "import sys; from turngym.trainers.cli import main; sys.exit(main())", "train"]


def start(out: Path, mode: str, seed: int, steps: int) -> "subprocess.Popen[bytes] | None":
    """The run, gone on with where it was; None when it is done."""
    place = out / f"{mode}-{seed}"
    if (place / "config.json").exists():
        return None
    words = [*MODES[mode], *COMMON, "--seed", str(seed), "--steps", str(steps), "--out", str(place)]
    if (place / "run.json").exists():
        words = ["--resume", str(place)]
    return subprocess.Popen(COMMAND + words, env=os.environ | {"PYTHONPATH": path(out)})


def path(out: Path) -> str:
    return os.pathsep.join([str(out), *filter(None, [os.environ.get("PYTHONPATH")])])


def reached(place: Path) -> tuple[float, int]:
    """Seconds and updates until the goal; infinite if never."""
    seconds, shares = 0.0, list[float]()
    for row in rows(place):
        seconds += row["seconds/wait"] + row["seconds/learn"] + row["seconds/other"]
        shares.append(row["success"])
        if len(shares) >= ROW and sum(shares[-ROW:]) / ROW >= GOAL:
            return seconds, row["step"]
    return float("inf"), 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", default="runs/asynchronous")
    o = parser.parse_args()
    out = Path(o.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "waiting_forum.py").write_text(WORLD.replace("TASK", TASK))
    found = []
    for seed in range(o.seeds):
        running = [start(out, mode, seed, o.steps) for mode in MODES]
        if any(process is not None and process.wait() for process in running):
            sys.exit("a run failed: see above")
        times = {mode: reached(out / f"{mode}-{seed}") for mode in MODES}
        lag = max(row["lag_max"] for row in rows(out / f"asynchronous-{seed}"))
        ends = {mode: rows(out / f"{mode}-{seed}")[-10:] for mode in MODES}
        found.append(
            {
                "seed": seed,
                "seconds": {mode: round(s, 1) for mode, (s, _) in times.items()},
                "updates": {mode: n for mode, (_, n) in times.items()},
                "success_at_the_end": {m: round(sum(r["success"] for r in e) / len(e), 3) for m, e in ends.items()},
                "speedup": round(times["synchronous"][0] / times["asynchronous"][0], 2),
                "lag_max": lag,
            }
        )
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    ratios = [float(str(pair["speedup"])) for pair in found]
    figures = {"mean": round(geometric_mean(ratios), 2), "min": min(ratios), "max": max(ratios)}
    print(json.dumps({"async_speedup": figures, "goal": GOAL, "pairs": found, "machine": machine()}))


if __name__ == "__main__":
    main()
