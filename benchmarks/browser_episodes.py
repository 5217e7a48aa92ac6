"""Whether many browser episodes leave anything behind: memory, processes, file descriptors and contexts over time.

    python benchmarks/browser_episodes.py [--episodes 10000] [--engines 3]

Each engine plays short episodes in a thread of its own: a reset and two actions of the gold way, one in fifty of them
left in the middle by a page that crashes, and the next goes on. Memory is the sum of the proportional shares (PSS) of
this process and all below it. Linux only. Prints one JSON line: the figures of the first and the last quarter of the
samples, their ratio, and what is left after the engines are closed.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from playwright.async_api import Error

from turngym.envs import EnvError
from turngym.envs.web.browser import Browser
from turngym.envs.web.browser_engine import BrowserEngine
from turngym.envs.web.suite import WebSuite
from turngym.trainers.machine import machine

SAMPLES, CRASHES = 80, 50
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Sample:
    """What there is after so many episodes."""

    episodes: int
    seconds: float
    megabytes: float  # of all processes
    own_megabytes: float  # of this one
    processes: int
    descriptors: int  # of this process
    contexts: int


class Count:
    """Episodes so far, over all threads."""

    def __init__(self, total: int) -> None:
        self.total, self.begun, self.done, self.failed, self.wrong = total, 0, 0, 0, 0
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """The number of the next episode, None when that was all."""
        with self._lock:
            if self.begun >= self.total:
                return None
            self.begun += 1
            return self.begun

    def end(self, *, failed: bool, crashed: bool) -> None:
        with self._lock:
            self.done += 1
            self.failed += failed
            self.wrong += failed != crashed


def play(count: Count) -> None:
    engine = BrowserEngine()
    world = WebSuite(engine=engine)
    while (number := count.take()) is not None:
        crash, failed = number % CRASHES == 0, False
        try:
            world.reset(seed=number)
            if crash:
                _crash(engine)
            for _ in range(2):
                if world.step(world.cheat())[2]:
                    break
        except EnvError as error:
            failed = True
            if not crash:
                print(f"episode {number}: {error}", file=sys.stderr)
        count.end(failed=failed, crashed=crash)
    world.close()


def _crash(engine: BrowserEngine) -> None:
    profile, browser = engine._profile, engine._browser
    assert profile and browser

    async def crash() -> None:
        try:
            await profile.guard(profile._tabs[0].frame.send("Page.crash"))
        except Error:
            pass  # the answer of a page that has gone

    browser.run(crash(), 10)


def sample(count: Count, begin: float) -> Sample:
    own = os.getpid()
    below = list(_below(own))
    contexts = [len(b.chromium.contexts) for b in Browser._shared.values()]
    return Sample(
        count.done,
        round(time.monotonic() - begin, 1),
        round(sum(map(_share, (own, *below))) / 1024, 1),
        round(_share(own) / 1024, 1),
        len(below),
        len(os.listdir("/proc/self/fd")),
        sum(contexts),
    )


def _below(process: int) -> Iterator[int]:
    try:
        for task in (_PROC / str(process) / "task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _below(child)
    except OSError:
        pass  # it has ended


def _share(process: int) -> int:
    """Proportional share of memory in KiB."""
    try:
        lines = (_PROC / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--engines", type=int, default=3)
    options = parser.parse_args()
    count, begin, samples = Count(options.episodes), time.monotonic(), list[Sample]()
    before = sample(count, begin)
    with ThreadPoolExecutor(options.engines) as threads:
        players = [threads.submit(play, count) for _ in range(options.engines)]
        for i in range(1, SAMPLES):
            while count.done < i * options.episodes / SAMPLES and not all(p.done() for p in players):
                time.sleep(0.1)
            samples.append(sample(count, begin))
        for player in players:
            player.result()
    seconds = time.monotonic() - begin
    time.sleep(1)  # children that have ended are collected
    after = sample(count, begin)
    quarter = len(samples) // 4
    first, last = samples[quarter : 2 * quarter], samples[-quarter:]  # the very first warm up
    names = ("megabytes", "own_megabytes", "processes", "descriptors", "contexts")
    quarters = {
        name: [round(statistics.median(getattr(s, name) for s in part), 1) for part in (first, last)] for name in names
    }
    figures = {
        "benchmark": "browser_episodes",
        "episodes": count.done,
        "engines": options.engines,
        "failed_on_purpose": options.episodes // CRASHES,
        "failed": count.failed,
        "failed_otherwise_than_meant": count.wrong,
        "episodes_per_second": round(count.done / seconds, 2),
        "second_and_last_quarter": quarters,
        "memory_ratio": round(quarters["megabytes"][1] / quarters["megabytes"][0], 3),
        "before": asdict(before),
        "after": asdict(after),
        "strays": after.processes - before.processes,
        "samples": [list(asdict(s).values()) for s in samples[:: max(1, SAMPLES // 20)]],
        "machine": machine(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
