"""Makes ``workloads/episodes.jsonl.gz``: the prompts of real episodes and how long each action was.

    python benchmarks/workload.py

The embedded policy plays tasks of the suite, all levels; only ids and seeds are kept, so that a sampler can be asked
for the same again without a world.
"""

import asyncio
import gzip
import json
from pathlib import Path

import torch

from turngym.agents.tiny import BASE
from turngym.envs.web.suite import WebSuite
from turngym.trainers.demonstrations import number
from turngym.trainers.player import Player, Setting
from turngym.trainers.rollout import Group, Spec
from turngym.trainers.worlds import options

FILE = Path(__file__).parent / "workloads" / "episodes.jsonl.gz"
ENV, SIZE = "turngym/WebSuite-v0", 8


def main() -> None:
    torch.set_num_threads(1)
    world = options(ENV, engine="parser", split="train", instructions=False, prompt="plain")
    names = WebSuite(split="train").templates
    groups: list[Group] = []

    async def play() -> None:
        player = Player(Setting(ENV, (("train", world),), str(BASE), max_tokens=24))
        specs = [Spec(i, name, number(0, 9, i), SIZE) for i, name in enumerate(names)]
        await player.play(specs, groups.append)
        await player.close()

    asyncio.run(play())
    lines = []
    for group in sorted(groups, key=lambda g: g.spec.group):
        for t in group.trajectories:
            calls = [call for turn in t.turns for call in turn.action.calls]
            lines.append([[c.request.ids, list(c.request.seed), len(c.sample.tokens)] for c in calls])
    FILE.parent.mkdir(exist_ok=True)
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(lines)} episodes, {sum(map(len, lines))} turns, {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
