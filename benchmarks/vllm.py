"""vLLM on a CPU beside the torch sampler: tokens/s at three sizes, seconds of a weight swap, tokens lost in it.

    TURNGYM_VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/vllm.py [--rounds 5] [--sizes 0.3,5,20]

Both sample the same requests from the same fp32 weights: 32 at once, prompts of 128 ids of which groups of 8 share 96,
64 tokens each. Rounds alternate, each begins with fresh prompts. A swap is one ``publish`` in the middle of a round of
384 tokens; lost are tokens asked for and not answered. Prints one JSON line: medians with minimum and maximum.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turngym.agents import Request, Sample, Sampler
from turngym.agents.samplers import TorchSampler
from turngym.agents.samplers.vllm import VllmSampler
from turngym.agents.samplers.vllm_weights import VllmWeights
from turngym.agents.tiny import BASE
from turngym.agents.tiny import model as shape
from turngym.trainers.machine import machine
from turngym.trainers.models import load
from turngym.trainers.servers import Process, wait

SHAPES = {"0.3": (3, 96, 4), "5": (6, 256, 8), "20": (8, 512, 16)}  # layers, width, heads by million parameters
VOCABULARY, AT_ONCE, GROUP, SHARED, PROMPT, LONG = 946, 32, 8, 96, 128, 384


def requests(seed: int, tokens: int) -> list[Request]:
    rng = np.random.default_rng(seed)
    stems = rng.integers(3, VOCABULARY, (AT_ONCE // GROUP, SHARED)).tolist()
    tails = rng.integers(3, VOCABULARY, (AT_ONCE, PROMPT - SHARED)).tolist()
    return [
        Request((*stems[n // GROUP], *tail), tokens, seed=(seed, n), session=f"{seed}.{n}")
        for n, tail in enumerate(tails)
    ]


async def play(sampler: Sampler, asked: Sequence[Request]) -> tuple[float, list[Sample]]:
    """Tokens a second, and the samples."""
    began = time.perf_counter()
    samples = await asyncio.gather(*map(sampler, asked))
    return sum(len(s.tokens) for s in samples) / (time.perf_counter() - began), list(samples)


async def swapped(sampler: VllmSampler, weights: VllmWeights, tensors: Any, version: int) -> tuple[float, int, int]:
    """Seconds of a swap in the middle of a round, the tokens that it cost, requests with tokens of both versions."""
    asked = requests(10_000 + version, LONG)
    running = asyncio.ensure_future(play(sampler, asked))
    await asyncio.sleep(1.0)
    began = time.perf_counter()
    await asyncio.to_thread(weights.publish, tensors.items(), version)
    seconds = time.perf_counter() - began
    _, samples = await running
    across = sum(len(set(s.versions)) == 2 for s in samples)
    return seconds, sum(LONG - len(s.tokens) for s in samples), across


async def measure(size: str, rounds: int, folder: Path) -> dict[str, Any]:
    layers, width, heads = SHAPES[size]
    model = shape.build(VOCABULARY, pad=941, end=945, seed=0, layers=layers, width=width, heads=heads).eval()
    model.save_pretrained(folder / "model")
    load(str(BASE))[1].save_pretrained(folder / "model")
    tensors = dict(model.state_dict())
    server = Process(str(folder / "model"), folder / "log")
    server.start()
    weights = VllmWeights([server.url], folder=folder / "weights")
    try:
        wait([server], 600.0)
        weights.publish(tensors.items(), 0)
        ours = TorchSampler(model, rows=AT_ONCE, together=False)
        theirs = VllmSampler([server.url], initial=None)
        speeds: dict[str, list[float]] = {"torch": [], "vllm": []}
        for turn in range(rounds + 1):  # the first is not counted
            for name, sampler in (("torch", ours), ("vllm", theirs)):
                speed, _ = await play(sampler, requests(turn, 64))
                speeds[name] += [speed] if turn else []
        swaps = [await swapped(theirs, weights, tensors, 1 + n) for n in range(rounds)]
        await theirs.shut()
        ours.close()
    finally:
        weights.close()
        server.stop()
    ratios = [v / t for v, t in zip(speeds["vllm"], speeds["torch"], strict=True)]
    return {
        "parameters": sum(t.numel() for t in tensors.values()),
        "tokens_per_second": {name: spread(found) for name, found in speeds.items()},
        "vllm_over_torch": spread(ratios),
        "swap_seconds": spread([seconds for seconds, _, _ in swaps]),
        "tokens_lost": sum(lost for _, lost, _ in swaps),
        "requests_across_a_swap": sum(across for _, _, across in swaps),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="0.3,5,20")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for size in options.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found[size] = asyncio.run(measure(size, options.rounds, Path(folder)))
    print(json.dumps({"rounds": options.rounds, "sizes": found, "machine": machine()}))


if __name__ == "__main__":
    main()
