"""What our own machinery costs: event-loop lag and CPU a turn with 1,000 scripted episodes at once.

    python benchmarks/loop.py [--episodes 1000] [--turns 10] [--rounds 5]

Worlds and agents do nothing but wait (log-normal, median 50 ms), so that what is measured is the rollout: deadlines,
phases for the watchdog, turns, trajectories. The baseline does the same waits in bare coroutines. The lag is by how
much a timer of 5 ms comes late. Prints one JSON line a figure.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.envs import Messages, user
from turngym.trainers.machine import machine
from turngym.trainers.rollout import Limits, Spec, Step, rollout

TICK, LIMITS = 0.005, Limits(action=60.0, step=60.0, episode=600.0)
PAGE, SAMPLE = user("a page"), Sample((1, 2, 3), (-0.1, -0.2, -0.3), (0, 0, 0), "stop")


@dataclass
class Waiting:
    """World and agent in one: each waits for its next time."""

    turns: int
    waits: list[float] = field(default_factory=list)
    left: int = 0

    async def start(self) -> None: ...

    async def reset(self, seed: int, task: str) -> tuple[Messages, dict[str, Any]]:
        self.left = self.turns
        return PAGE, {}

    async def step(self, action: str) -> Step:
        await asyncio.sleep(self.waits.pop())
        self.left -= 1
        return PAGE, 0.0, not self.left, False, {}

    async def cheat(self) -> str:
        return ""

    async def __call__(self, history: Sequence[Turn], observation: Messages) -> Action:
        await asyncio.sleep(self.waits.pop())
        return Action("go", (Call("policy", Request((1, 2)), SAMPLE),))


def waits(turns: int, seed: int) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).lognormal(np.log(0.05), 0.7, 2 * turns)]


async def episode(turns: int, seed: int) -> None:
    both = Waiting(turns, waits(turns, seed))
    played = await rollout(both, both, Spec(seed, "t", seed), 0, limits=LIMITS)
    assert played.outcome == "terminated" and len(played.turns) == turns


async def bare(turns: int, seed: int) -> None:
    left = waits(turns, seed)
    while left:
        await asyncio.sleep(left.pop())


async def measured(work: Sequence[Coroutine[Any, Any, None]], late: list[float]) -> float:
    """CPU seconds that ``work`` took, all at once."""

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            late.append(1e3 * (time.perf_counter() - due))

    ticking = asyncio.create_task(tick())
    start = time.process_time()
    await asyncio.gather(*work)
    took = time.process_time() - start
    ticking.cancel()
    return took


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    o = parser.parse_args()
    ours, base, lags = list[float](), list[float](), list[float]()
    for _ in range(o.rounds):
        late = list[float]()
        per = 1e6 / (o.episodes * o.turns)
        ours.append(per * asyncio.run(measured([episode(o.turns, i) for i in range(o.episodes)], late)))
        base.append(per * asyncio.run(measured([bare(o.turns, i) for i in range(o.episodes)], [])))
        lags.append(sorted(late)[int(0.99 * len(late))])
    about = {"episodes": o.episodes, "turns": o.turns, "rounds": o.rounds, "machine": machine()}
    added = [a - b for a, b in zip(ours, base, strict=True)]
    print(json.dumps({"loop_lag_p99_ms": spread(lags)} | about))
    print(json.dumps({"overhead_us_per_turn": spread(added), "ours_us": spread(ours), "bare_us": spread(base)} | about))


if __name__ == "__main__":
    main()
