"""Tokens a second and share of the peak of sampler and learner, on a model with random weights of a real size.

    python benchmarks/gpu.py [--size 0.6b] [--device cuda] [--dtype bfloat16] [--processes 1] [--checkpointing]
        [--lora 0] [--peak 989] [--rows 64] [--prompt 1024] [--tokens 128] [--micro-tokens 16384] [--rounds 5]

The sampler decodes ``--tokens`` after each of ``--rows`` prompts of random ids; the learner clones these rows, all of
which it reads as they are. Beside it the bare model in the same type: forward, backward and AdamW over the same rows,
with its head at every token, in one process. Rounds alternate. The share of the peak counts 6 FLOP a weight and token
but for embeddings, and attention's 6 times layers, width and tokens before, per token; recomputed layers and the head
are not counted. Prints one JSON line: medians with minimum and maximum. ``--size tiny`` is for a CPU.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.agents.samplers import TorchSampler
from turngym.agents.tiny import tokenizer as words
from turngym.trainers.batch import Batch, collate
from turngym.trainers.learner import Learner
from turngym.trainers.machine import machine
from turngym.trainers.models import load, save
from turngym.trainers.plan import Plan
from turngym.trainers.recipes import clone
from turngym.trainers.rollout import Trajectory
from turngym.trainers.team import Team
from turngym.trainers.trainee import Making

SIZES = {  # hidden, inner, layers, heads, heads of keys and values, head's width, vocabulary
    "tiny": (64, 128, 2, 2, 1, 32, 1024),
    "0.6b": (1024, 3072, 28, 16, 8, 128, 151936),
    "1.7b": (2048, 6144, 28, 16, 8, 128, 151936),
}
PEAK = {
    "B200": 2250,
    "H200": 989,
    "H100": 989,
    "H20": 148,
    "L40S": 362,
    "A100": 312,
    "4090": 165,
}  # dense bf16, TFLOP/s


def write(folder: Path, size: str, limit: int) -> None:
    hidden, inner, layers, heads, few, wide, vocabulary = SIZES[size]
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=few,
        head_dim=wide,
        max_position_embeddings=limit,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save(folder, Qwen3ForCausalLM(config), words.build())


def flops(model: Any, length: float) -> float:
    """Of forward and backward, a token of a row of ``length``."""
    config = model.config
    weights = sum(p.numel() for n, p in model.named_parameters() if "embed_tokens" not in n and "lm_head" not in n)
    return 6.0 * weights + 6.0 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * length


def rows(count: int, prompt: int, tokens: int, vocabulary: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(3, vocabulary, (count, prompt + tokens), generator=g).tolist()
    return [(tuple(row[:prompt]), tuple(row[prompt:])) for row in ids]


def batch(made: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> Batch:
    def episode(n: int, read: tuple[int, ...], wrote: tuple[int, ...]) -> Trajectory:
        turn = Turn((), Action("", (Call("policy", Request(read), Sample(wrote, (), (), "stop")),)))
        return Trajectory(str(n), "", 0, n, 0, (turn,), (), "terminated", source="demonstration")

    return collate([episode(n, *row) for n, row in enumerate(made)])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def bare(model: Any, optimizer: torch.optim.Optimizer, data: Batch, micro: int) -> None:
    optimizer.zero_grad()
    for ids in data.ids.to(model.device).split(max(1, micro // data.ids.shape[1])):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()


def spread(values: list[float], digits: int = 3) -> dict[str, float]:
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def measure(o: argparse.Namespace, folder: Path, learner: Learner, device: str) -> dict[str, Any]:
    model, _ = load(str(folder), device, o.dtype)
    made = rows(o.rows, o.prompt, o.tokens, model.config.vocab_size)
    data, micro = batch(made), learner.micro_tokens
    sampler = TorchSampler(model, rows=min(o.rows, 128), together=False)
    requests = [Request(read, o.tokens, seed=n, session=str(n)) for n, (read, _) in enumerate(made)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    found = [
        (
            seconds(lambda: sampler.decode(requests)),
            seconds(lambda: learner.update(data)),
            seconds(lambda: bare(model, optimizer, data, micro)),
        )
        for _ in range(o.rounds + 1)
    ][1:]
    sampler.close()
    all_tokens, written = int(data.lengths.sum()), o.rows * o.tokens
    figures: dict[str, Any] = {
        "learner_vs_bare": spread([raw / ours for _, ours, raw in found]),
        "rollout_tokens_per_second": spread([written / played for played, _, _ in found], 1),
        "learner_tokens_per_second": spread([all_tokens / ours for _, ours, _ in found], 1),
    }
    if peak := o.peak or next((p for name, p in PEAK.items() if name in str(machine()["gpu"])), 0):
        work = flops(model, (o.prompt + o.tokens) / 2) * all_tokens / 1e12
        figures["share_of_peak"] = spread([work / ours / (peak * o.processes) for _, ours, _ in found], 6)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="0.6b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--checkpointing", action="store_true")
    counts = {"processes": 1, "lora": 0, "micro_tokens": 0, "rows": 64, "prompt": 1024, "tokens": 128, "rounds": 5}
    for name, value in counts.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    parser.add_argument("--peak", type=float, default=0.0, help="dense bf16 TFLOP/s of one device; 0: by its name")
    o = parser.parse_args()
    making = Making(o.device, o.dtype, o.checkpointing, o.lora)
    with tempfile.TemporaryDirectory() as folder, Team(o.processes, o.device, grouped=making.sharded) as team:
        write(Path(folder), o.size, o.prompt + o.tokens)
        plan = Plan(folder=folder, recipe=clone(), lr=1e-6, making=making, micro_tokens=o.micro_tokens)
        figures = measure(o, Path(folder), team.learner(plan), o.device)
    if torch.cuda.is_available():
        figures["learner_and_sampler_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    print(json.dumps(figures | {"settings": vars(o), "machine": machine()}))


if __name__ == "__main__":
    main()
