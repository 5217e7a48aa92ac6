"""An update on rows of real episodes: as prefix trees, as rows, and by the bare model.

    python benchmarks/learner.py [--rounds 5] [--threads 2]

The rows are the prompts of ``workloads/episodes.jsonl.gz`` (groups of eight, a row a turn), whose last tokens pass for
what the policy wrote. As rows, those that are equal, or whole beginnings of others, still pass once. The bare model
runs over every row, padded, in micro-batches of like length, with its head at every token. Rounds alternate. Prints one
JSON line: medians with minimum and maximum.
"""

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Callable

import torch
from workload import FILE

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.trainers.batch import Batch, collate
from turngym.trainers.forest import NODES
from turngym.trainers.learner import Learner
from turngym.trainers.machine import machine
from turngym.trainers.models import load
from turngym.trainers.output import Output, pack
from turngym.trainers.recipes import clone
from turngym.trainers.rollout import Trajectory


def episode(number: int, turns: list[tuple[list[int], list[int], int]]) -> Trajectory:
    played = []
    for ids, _, size in turns:
        call = Call("policy", Request(tuple(ids[:-size])), Sample(tuple(ids[-size:]), (), (), "stop"))
        played.append(Turn((), Action("", (call,))))
    return Trajectory(str(number), "", 0, number, 0, tuple(played), (), "terminated", source="demonstration")


def bare(learner: Learner, batch: Batch) -> None:
    learner.optimizer.zero_grad()
    for index in pack(batch, learner.micro_tokens):
        part = batch.take(index)
        loss = learner.model(input_ids=part.ids, labels=part.ids.masked_fill(~part.loss_mask, -100)).loss
        loss.backward()
    learner.optimizer.step()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    lines = gzip.decompress(FILE.read_bytes()).splitlines()
    batch = collate([episode(i, json.loads(line)) for i, line in enumerate(lines)])
    learner = Learner(load("")[0], clone(), lr=1e-5)

    def update(nodes: int) -> float:
        learner.network.nodes = nodes
        return seconds(lambda: learner.update(batch))

    rounds = [(update(NODES), update(0), seconds(lambda: bare(learner, batch))) for _ in range(o.rounds + 1)][1:]
    learner.network.nodes, tokens = NODES, int(batch.lengths.sum())
    forests = [Output(learner.network, batch.take(i)).forest for i in pack(batch, learner.micro_tokens, NODES)]
    figures = {
        "trees_vs_rows": spread([rows / trees for trees, rows, _ in rounds]),
        "trees_vs_bare": spread([raw / trees for trees, _, raw in rounds]),
        "update_seconds": spread([trees for trees, _, _ in rounds]),
        "rows": len(batch.ids),
        "tokens": tokens,
        "nodes": sum(sum(f.sizes) for f in forests),
    }
    print(json.dumps(figures | {"threads": o.threads, "rounds": o.rounds, "machine": machine()}))


if __name__ == "__main__":
    main()
