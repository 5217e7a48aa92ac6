"""Tokens a second through the learner and the sampler with the embedded policy, beside the bare model.

    python benchmarks/learner.py [--threads 1]

The bare learner is a forward and a backward pass over the same rows, padded and with the language-model head at every
token; the bare sampler is one prefill of the same prompts. Prints one JSON line: medians with minimum and maximum.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable

import torch

from turngym.agents import Request
from turngym.agents.chat import Prompter
from turngym.agents.memory import MEMORIES
from turngym.agents.samplers import TorchSampler
from turngym.envs.web.shop import WebShop
from turngym.trainers.batch import collate
from turngym.trainers.demonstrations import demonstrate
from turngym.trainers.learner import Learner
from turngym.trainers.models import load
from turngym.trainers.recipes import clone

ROUNDS = 7


def rate(tokens: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return tokens / (time.perf_counter() - start)


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    model, tokenizer = load("")
    env = WebShop(instructions=False, level=(1, 2, 3))
    demos = demonstrate(env, env.templates, 40, Prompter(tokenizer), MEMORIES["compressed"], 0)
    batch = collate(demos)
    learner, tokens = Learner(model, clone(), lr=1e-5), int(batch.attention_mask.sum())
    bare, _ = load("")

    def plain() -> None:
        loss = bare(input_ids=batch.ids, labels=batch.ids.masked_fill(~batch.loss_mask, -100)).loss
        loss.backward()

    learn = [(rate(tokens, lambda: learner.update(batch)), rate(tokens, plain)) for _ in range(ROUNDS)]
    calls = [call for t in demos for turn in t.turns for call in turn.action.calls]
    requests = [Request(c.request.ids, max_tokens=6, seed=(i,)) for i, c in enumerate(calls)]
    sampler, read = TorchSampler(bare), sum(len(r.ids) + r.max_tokens for r in requests)

    async def sample() -> None:
        await asyncio.gather(*(sampler(r) for r in requests))

    with torch.no_grad():
        prefill = [rate(tokens, lambda: bare(input_ids=batch.ids, logits_to_keep=1)) for _ in range(ROUNDS)]
    drawn = [rate(read, lambda: asyncio.run(sample())) for _ in range(ROUNDS)]
    sampler.close()
    figures = {
        "learner_tokens_per_second": spread([ours for ours, _ in learn]),
        "bare_learner_tokens_per_second": spread([raw for _, raw in learn]),
        "learner_ratio": spread([ours / raw for ours, raw in learn]),
        "sampler_tokens_per_second": spread(drawn),
        "bare_prefill_tokens_per_second": spread(prefill),
        "sampler_ratio": spread([ours / raw for ours, raw in zip(drawn, prefill, strict=True)]),
    }
    print(
        json.dumps(
            {"benchmark": "learner", "threads": threads, "mean_context": round(tokens / len(batch.ids), 1), **figures}
        )
    )


if __name__ == "__main__":
    main()
