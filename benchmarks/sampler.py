"""The torch sampler beside ``generate`` of transformers: the embedded policy, real episodes, 32 at once.

    python benchmarks/sampler.py [--rounds 5] [--threads 1]

Both are asked for the same turns of the same episodes (``workloads/episodes.jsonl.gz``), a turn's action as long as it
was, the next turn after it; worlds take no time. ``generate`` decodes a turn of all 32 episodes together and pads on
the left; a place that becomes free is taken by the next episode. Only tokens that an episode used are counted. Rounds
alternate. Prints one JSON line: medians with minimum and maximum.
"""

import argparse
import asyncio
import gzip
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from workload import FILE

from turngym.agents import Request
from turngym.agents.samplers import TorchSampler
from turngym.trainers.machine import machine
from turngym.trainers.models import load

AT_ONCE = 32
Episode = list[tuple[tuple[int, ...], tuple[int, ...], int]]  # a turn: ids, seed, tokens


def ours(model: Any, episodes: list[Episode]) -> int:
    """Useful tokens decoded by the sampler."""

    async def main() -> int:
        sampler, waiting = TorchSampler(model, rows=AT_ONCE, together=False), list(enumerate(episodes))[::-1]

        async def place() -> int:
            tokens = 0
            while waiting:
                number, episode = waiting.pop()
                for ids, seed, size in episode:
                    sample = await sampler(Request(ids, size, seed=seed, session=str(number)))
                    tokens += len(sample.tokens)
            return tokens

        done = await asyncio.gather(*(place() for _ in range(AT_ONCE)))
        sampler.close()
        return sum(done)

    return asyncio.run(main())


@torch.inference_mode()
def generate(model: Any, episodes: list[Episode]) -> int:
    """The same by ``generate``, a turn of all places at a time."""
    waiting, tokens = episodes[::-1], 0
    places = [iter(waiting.pop()) for _ in range(AT_ONCE)]
    while places:
        turns = []
        for i, place in enumerate(places):
            turn = next(place, None)
            while turn is None and waiting:
                places[i] = iter(waiting.pop())
                turn = next(places[i], None)
            turns.append(turn)
        places = [p for p, turn in zip(places, turns, strict=True) if turn is not None]
        live = [turn for turn in turns if turn is not None]
        if not live:
            break
        width, size = max(len(ids) for ids, _, _ in live), max(size for _, _, size in live)
        ids = torch.tensor([[0] * (width - len(t[0])) + list(t[0]) for t in live])
        seen = torch.tensor([[0] * (width - len(t[0])) + [1] * len(t[0]) for t in live])
        model.generate(
            input_ids=ids, attention_mask=seen, do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
            max_new_tokens=size, min_new_tokens=size, pad_token_id=0,
        )  # fmt: skip
        tokens += sum(size for _, _, size in live)
    return tokens


def rate(work: Callable[[Any, list[Episode]], int], model: Any, episodes: list[Episode]) -> float:
    start = time.perf_counter()
    return work(model, episodes) / (time.perf_counter() - start)


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = gzip.decompress(FILE.read_bytes()).splitlines()
    episodes = [[(tuple(ids), tuple(seed), size) for ids, seed, size in json.loads(line)] for line in lines]
    model, _ = load("")
    model.eval()
    rounds = [(rate(ours, model, episodes), rate(generate, model, episodes)) for _ in range(options.rounds + 1)][1:]
    turns = [turn for episode in episodes for turn in episode]
    print(
        json.dumps(
            {
                "sampler_vs_generate": spread([a / b for a, b in rounds]),
                "ours_tokens_per_second": spread([a for a, _ in rounds]),
                "generate_tokens_per_second": spread([b for _, b in rounds]),
                "episodes": len(episodes),
                "turns": len(turns),
                "tokens": sum(size for _, _, size in turns),
                "threads": options.threads,
                "rounds": options.rounds,
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
