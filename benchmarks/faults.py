"""Whether faults are lost, scored or leave anything behind: many episodes, one in twenty of them broken on purpose.

    python benchmarks/faults.py [--episodes 5000]

Worlds live in processes of their own; a faulty one raises, drops its connection, fails its judge, kills its process or
hangs beyond its deadline. Linux only. Prints one JSON line: ``faults_lost`` counts episodes that were asked for and
did not come back exactly once, with the outcome that their fault has.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from turngym.trainers.machine import machine
from turngym.trainers.player import Player, Setting
from turngym.trainers.rollout import Group, Limits, Spec

WORLD = '''
import os, signal, time
import gymnasium as gym
from turngym.envs import Chat, JudgeError, Reply, user

class World(gym.Env):
    """Two turns; its task says what goes wrong in the second."""

    def __init__(self):
        self.observation_space, self.action_space = Chat(), Reply(["a"])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.task, self.turn = options["template"], 0
        return user(self.task), {}

    def cheat(self):
        return "a"

    def step(self, action):
        self.turn += 1
        if self.turn == 2:
            if self.task == "hang":
                time.sleep(1000)
            if self.task == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.task == "raise":
                raise ValueError("broken")
            if self.task == "drop":
                raise ConnectionResetError("dropped")
            if self.task == "judge":
                raise JudgeError("no verdict")
        return user("on"), 1.0, self.turn == 2, False, {}

gym.register("Faulty-v0", entry_point=World)
'''
FAULTS = {"raise": "env_error", "drop": "env_error", "judge": "judge_error", "die": "env_error", "hang": "timeout"}
EVERY, SLOTS, DEADLINE = 20, 16, 10.0


def task(number: int) -> str:
    """Every twentieth episode is faulty, the kinds in turn."""
    kinds = list(FAULTS)
    return kinds[number // EVERY % len(kinds)] if number % EVERY == 0 else "fine"


async def played(episodes: int) -> tuple[list[Group], list[float]]:
    """All groups, and the megabytes of this process over time."""
    groups, memory = list[Group](), list[float]()
    setting = Setting(
        "faulty_world:Faulty-v0", (("train", ()),), "gold", slots=SLOTS, together=False, limits=Limits(step=DEADLINE)
    )
    player = Player(setting)

    def done(group: Group) -> None:
        groups.append(group)
        if len(groups) % max(1, episodes // 50) == 0:
            memory.append(psutil.Process().memory_info().rss / 2**20)
            print(f"\r{len(groups):,} of {episodes:,} episodes", end="", file=sys.stderr, flush=True)

    await player.play([Spec(i, task(i), i) for i in range(episodes)], done)
    await player.close()
    return groups, memory


def left() -> tuple[int, int]:
    """Processes below this one, and its open files."""
    process = psutil.Process()
    return len(process.children(recursive=True)), process.num_fds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=5000)
    episodes: int = parser.parse_args().episodes
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "faulty_world.py").write_text(WORLD)
        sys.path.insert(0, folder)
        asyncio.run(played(1))  # what is loaded once is not a leak
        before, start = left(), time.monotonic()
        groups, memory = asyncio.run(played(episodes))
        after = left()
    came = Counter(g.spec.group for g in groups)
    right = [g for g in groups if g.trajectories[0].outcome == FAULTS.get(g.spec.task, "terminated")]
    faulty = [g for g in groups if g.spec.task in FAULTS]
    quarter = max(1, len(memory) // 4)
    print(
        json.dumps(
            {
                "faults_lost": sum(came[i] != 1 for i in range(episodes)) + len(groups) - len(right),
                "faults_scored": sum(t.scored for g in faulty for t in g.trajectories),
                "faults": len(faulty),
                "episodes": episodes,
                "leaked_processes": after[0] - before[0],
                "leaked_descriptors": after[1] - before[1],
                "megabytes_first_quarter": round(sum(memory[:quarter]) / quarter, 1),
                "megabytes_last_quarter": round(sum(memory[-quarter:]) / quarter, 1),
                "outcomes": dict(Counter(t.outcome for g in groups for t in g.trajectories)),
                "seconds": round(time.monotonic() - start, 1),
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
