"""Training with a bounded lag beside synchronous training, in a world that waits: how much sooner it is as good.

    python benchmarks/asynchronous.py [--seeds 5] [--steps 60] [--out runs/asynchronous]

The world is the embedded forum, one task of five turns, each step of which also waits: log-normal, median 200 ms, p99
5 s. A run has 64 episodes at once in one process, and updates of 64 episodes. All runs start from the same clone.
Synchronous training waits for the slowest episode of each update, but its episodes do not wait for each other's turns
(``--no-exact``). Pairs share a seed. The synchronous runs of all seeds go at the same time, as they wait for most of
it, and beside them the asynchronous ones, one after the other.

A run ends when the mean success of five updates in a row is well above the goal. Then the weights of every second
update play held-out tasks that do not wait, and what is compared is the time after which the mean of three in a row
reaches the goal. Prints one JSON line; started again with the same settings it goes on where it stopped.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean

import torch
from torch import Tensor

from turngym.trainers import checkpoint
from turngym.trainers.demonstrations import number
from turngym.trainers.habits import habits
from turngym.trainers.log import rows
from turngym.trainers.machine import machine
from turngym.trainers.player import Player, Setting
from turngym.trainers.recipes import webagent_r1
from turngym.trainers.rollout import Group, Spec
from turngym.trainers.run import worlds

WORLD = '''
import time
import gymnasium as gym
import numpy as np
from turngym.envs.web.forum import WebForum

MEDIAN, P99, TURNS = 0.2, 5.0, 5  # seconds
SIGMA = np.log(P99 / MEDIAN) / 2.3263478740408408

class Waiting(WebForum):
    """The forum, a step of which takes its time; demonstrations and validation do not wait."""

    def __init__(self, split="train", engine="parser", instructions=True, prompt="plain"):
        more = {"engine": engine, "instructions": instructions, "prompt": prompt}
        super().__init__(task="TASK", max_turns=TURNS, split=split, **more)
        self.waits = split == "train"

    def step(self, action):
        if self.waits:
            time.sleep(float(np.random.default_rng().lognormal(np.log(MEDIAN), SIGMA)))
        return super().step(action)

    def cheat(self):
        self.waits = False
        return super().cheat()

gym.register("Waiting-v0", entry_point=Waiting)
'''
TASK, GOAL, ENOUGH = "comment_one", 0.6, 0.65  # success at which runs are compared, and at which they may end
TRAINED, JUDGED, EVERY = 5, 3, 2  # updates in a row; judgements in a row, and of which updates
EPISODES = 96  # a judgement
ENV = "waiting_forum:Waiting-v0"
COMMON = (
    f"--env {ENV} --engine parser --demonstrations 24 --validation 40 --groups 8 --size 8 --lr 3e-4 --workers 1"
    " --threads 1 --slots 64 --world-threads 64 --browser-every 0 --checkpoint-every 1 --keep 1000"
).split()
CLONE = "webagent_r1 --clone-epochs 4 --steps 0".split()
MODES = {"synchronous": ["webagent_r1", "--no-exact"], "asynchronous": ["webagent_r1_async", "--max-lag", "4"]}
COMMAND = [sys.executable, "-c", "import sys; from turngym.trainers.cli import main; sys.exit(main())", "train"]


def place(out: Path, mode: str, seed: int) -> Path:
    return out / f"{mode}-{seed}"


def train(out: Path, words: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(COMMAND + words, env=os.environ | {"PYTHONPATH": path(out)})


def start(out: Path, mode: str, seed: int, steps: int) -> "subprocess.Popen[bytes]":
    """The run, gone on with where it was."""
    folder = place(out, mode, seed)
    if (folder / "run.json").exists():
        return train(out, ["--resume", str(folder), "--steps", str(steps)])
    model = ["--model", str(out / "clone"), "--clone-epochs", "0"]
    return train(out, [*MODES[mode], *COMMON, *model, "--seed", str(seed), "--steps", str(steps), "--out", str(folder)])


def race(out: Path, seeds: int, steps: int) -> None:
    """Every run until it has reached the goal or done its steps."""
    open_ = [(mode, seed) for mode in MODES for seed in range(seeds) if not done(place(out, mode, seed), steps)]
    running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    while open_:
        for mode, seed in open_:
            alone = mode == "synchronous" or not any(m == mode for m, _ in running)
            if alone and (mode, seed) not in running:
                running[mode, seed] = start(out, mode, seed, steps)
        time.sleep(1)
        for (mode, seed), process in list(running.items()):
            if process.poll() is None and not done(place(out, mode, seed), steps):
                continue
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()
            elif process.returncode:
                sys.exit(f"the {mode} run of seed {seed} failed: see above")
            del running[mode, seed]
            open_.remove((mode, seed))


def done(folder: Path, steps: int) -> bool:
    saved = [row for row in rows(folder) if kept(folder, row["step"]).exists()]  # a log is ahead of its checkpoint
    won = [row["success"] for row in saved]
    means = [sum(won[i - TRAINED : i]) / TRAINED for i in range(TRAINED, len(won) + 1)]
    return len(won) >= steps or max(means, default=0.0) >= ENOUGH


def kept(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"{step:06d}.pt"


def path(out: Path) -> str:
    return os.pathsep.join([str(out), *filter(None, [os.environ.get("PYTHONPATH")])])


def reached(folder: Path, judge: "Judge") -> tuple[float, int, list[float]]:
    """Seconds and updates until the weights reach the goal, and how good those before were."""
    seconds, found = 0.0, list[float]()
    for row in rows(folder):
        seconds += row["seconds/wait"] + row["seconds/learn"] + row["seconds/other"]
        if row["step"] % EVERY:
            continue
        state = checkpoint.load(kept(folder, row["step"]))
        found.append(judge(state["study"]["learner"]["model"]))
        if len(found) >= JUDGED and sum(found[-JUDGED:]) / JUDGED >= GOAL:
            return seconds, row["step"], found
    sys.exit(f"{folder} never reached {GOAL:.0%}: ENOUGH is too low, or --steps")


class Judge:
    """The success of weights on held-out tasks, sampled as in training."""

    def __init__(self, agent: Path) -> None:
        used = habits(str(agent))
        world = worlds(replace(webagent_r1(), env=ENV, engine="parser", browser_every=0), used)["validation"]
        self.player = Player(Setting(ENV, (("validation", world),), str(agent), used.memory, 1.0, used.max_tokens))
        self.specs = [Spec(i, "", number(0, 8, i), 1, "validation") for i in range(EPISODES)]
        self.runner, self.count = asyncio.Runner(), 0

    def __call__(self, weights: dict[str, Tensor]) -> float:
        groups, self.count = list[Group](), self.count + 1
        assert self.player.sampler is not None
        self.player.sampler.publish(weights.items(), self.count)
        self.runner.run(self.player.play(self.specs, groups.append))
        return sum(t.reward > 0 for group in groups for t in group.trajectories) / EPISODES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", default="runs/asynchronous")
    o = parser.parse_args()
    out = Path(o.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "waiting_forum.py").write_text(WORLD.replace("TASK", TASK))
    clone = [*CLONE, *COMMON, "--out", str(out / "clone")]
    if not (out / "clone" / "config.json").exists() and train(out, clone).wait():
        sys.exit("cloning failed: see above")
    sys.path.insert(0, str(out))
    torch.set_num_threads(1)
    race(out, o.seeds, o.steps)
    judge, pairs = Judge(out / "clone"), []
    for seed in range(o.seeds):
        times = {mode: reached(place(out, mode, seed), judge) for mode in MODES}
        seconds, updates = ({mode: round(t[i], 1) for mode, t in times.items()} for i in (0, 1))
        success = {mode: [round(x, 2) for x in t[2]] for mode, t in times.items()}
        lag = max(row["lag_max"] for row in rows(place(out, "asynchronous", seed)))
        speedup = round(times["synchronous"][0] / times["asynchronous"][0], 2)
        pair = {"seed": seed, "speedup": speedup, "seconds": seconds, "updates": updates}
        pairs.append(pair | {"success": success, "lag_max": lag})
        print(json.dumps(pairs[-1]), file=sys.stderr, flush=True)
    ratios = [p["speedup"] for p in pairs]
    figures = {"mean": round(geometric_mean(ratios), 2), "min": min(ratios), "max": max(ratios)}
    print(json.dumps({"async_speedup": figures, "goal": GOAL, "pairs": pairs, "machine": machine()}))


if __name__ == "__main__":
    main()
