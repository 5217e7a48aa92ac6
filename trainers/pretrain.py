"""``turngym pretrain``: the embedded policy's base weights, made once from random pages; no user pays for it."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..agents.tiny import model as shape
from ..agents.tiny import tokenizer as words
from ..agents.tiny.vocabulary import SPECIALS
from ..envs import UsageError
from . import habits, models
from .files import write_text
from .habits import Habits
from .options import doc
from .options import words as spelled
from .primer import Piece, Primer, copying

AGENT = Habits(max_tokens=24, instructions=False)
LOG = "pretrain.jsonl"
CONTEXT = 0.3  # copying has formed when the loss is below
REHEARSAL = 0.15  # the share of copying rows afterwards


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Settings of the pretraining."""

    out: str = field(default="runs/base", metadata=doc("folder that the base policy is written to"))
    steps: int = field(default=2200, metadata=doc("optimiser steps"))
    batch: int = field(default=64, metadata=doc("rows a step"))
    lr: float = field(default=3e-3, metadata=doc("peak learning rate"))
    seed: int = field(default=0, metadata=doc("root of all randomness"))
    layers: int = field(default=3, metadata=doc("transformer layers"))
    width: int = field(default=96, metadata=doc("hidden size"))
    heads: int = field(default=4, metadata=doc("attention heads of 32"))
    start: str = field(default="", metadata=doc("folder of a base to go on from; none: from nothing"))
    crowded: float = field(default=0.0, metadata=doc("share of pages whose elements share words"))
    threads: int = field(default=1, metadata=doc("torch threads"))


def pretrain(run: Pretrain) -> Path:
    """Trains and saves the base policy with its log (``pretrain.jsonl``); returns the folder."""
    check(run)
    torch.set_num_threads(run.threads)
    out = Path(run.out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = words.build()
    model, log = models.load(run.start)[0] if run.start else fresh(run, tokenizer), history(run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.lr, betas=(0.9, 0.95), weight_decay=0.0)
    rng, copied, start = np.random.default_rng(run.seed), bool(run.start), time.monotonic()
    primer, entries = Primer(rng, run.crowded), range(256, len(tokenizer) - len(SPECIALS))
    command = " ".join(["turngym pretrain", *spelled(Pretrain(), run)])
    log.append({"command": command, "settings": asdict(run), "parameters": sum(p.numel() for p in model.parameters())})
    for step in range(1, run.steps + 1):
        optimizer.param_groups[0]["lr"] = run.lr * schedule(step, run.steps)
        rows = [
            copying(rng, entries) if not copied or rng.random() < REHEARSAL else encode(tokenizer, primer.chat())
            for _ in range(run.batch)
        ]
        loss, accuracy = learn(model, optimizer, rows)
        if not copied and loss < CONTEXT:
            copied = True
            log.append({"step": step, "copying": True})
        if step % 50 == 0:
            log.append(
                {"step": step, "loss": loss, "accuracy": accuracy, "seconds": round(time.monotonic() - start, 1)}
            )
            print(" ".join(f"{k} {v:.4g}" for k, v in log[-1].items()), flush=True)
        if step % 200 == 0 or step == run.steps:
            save(out, model, tokenizer, log)
    return out


def check(run: Pretrain) -> None:
    """Raises UsageError for settings out of range, or of no effect."""
    usual = Pretrain()
    if min(run.steps, run.batch, run.layers, run.width, run.heads, run.threads) < 1 or run.seed < 0 or not run.lr > 0:
        raise UsageError("steps, batch, layers, width, heads, threads and lr must be above 0, seed at least 0")
    if run.start and (run.layers, run.width, run.heads) != (usual.layers, usual.width, usual.heads):
        raise UsageError("a base to go on from has its own size: leave layers, width and heads away")
    if not 0 <= run.crowded <= 1:
        raise UsageError(f"crowded is a share from 0 to 1, not {run.crowded}")


def fresh(run: Pretrain, tokenizer: Any) -> Any:
    """An untrained model of the run's size."""
    return shape.build(
        len(tokenizer),
        pad=tokenizer.pad_token_id,
        end=tokenizer.eos_token_id,
        seed=run.seed,
        layers=run.layers,
        width=run.width,
        heads=run.heads,
    )


def history(run: Pretrain) -> list[dict[str, Any]]:
    """The log of the base that the run goes on from."""
    log = Path(run.start) / LOG
    return [json.loads(line) for line in log.read_text().splitlines()] if run.start and log.is_file() else []


def encode(tokenizer: Any, pieces: Sequence[Piece]) -> tuple[list[int], list[int]]:
    """Token ids and loss mask of a chat in pieces."""
    ids, mask = list[int](), list[int]()
    for (_, learned), encoding in zip(
        pieces, tokenizer.backend_tokenizer.encode_batch([text for text, _ in pieces]), strict=True
    ):
        ids += encoding.ids
        mask += [int(learned)] * len(encoding.ids)
    return ids, mask


def schedule(step: int, steps: int) -> float:
    """A factor for the learning rate: 50 steps up, the last 30 % down to a twentieth."""
    return min(1.0, step / 50) * min(1.0, max(0.05, (steps - step) / (0.3 * steps)))


def learn(
    model: Any, optimizer: torch.optim.Optimizer, rows: Sequence[tuple[list[int], list[int]]]
) -> tuple[float, float]:
    """One step on the masked tokens; returns loss and accuracy."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, (row, learned) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = torch.tensor(learned, dtype=torch.bool)
    hidden: Tensor = model.model(input_ids=ids).last_hidden_state[:, :-1]  # causal: right padding needs no mask
    on, target = mask[:, 1:], ids[:, 1:]
    logits = model.lm_head(hidden[on])
    loss = nn.functional.cross_entropy(logits, target[on])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach()), float((logits.argmax(-1) == target[on]).float().mean())


def save(out: Path, model: Any, tokenizer: Any, log: Sequence[object]) -> None:
    """The folder as an agent's, with its log."""
    models.save(out, model, tokenizer)
    habits.write(out, AGENT)
    write_text(out / LOG, "".join(json.dumps(row) + "\n" for row in log))
