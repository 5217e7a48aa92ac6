"""What tests of learners in several processes share: a model's folder, rows of episodes, recipes, a comparison."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from small import play
from torch import Tensor

from turngym.agents.tiny import model as shape
from turngym.agents.tiny import tokenizer as words
from turngym.trainers import models
from turngym.trainers.batch import Batch, collate
from turngym.trainers.learner import Learner
from turngym.trainers.plan import Plan
from turngym.trainers.recipes import m_grpo
from turngym.trainers.reductions import token_mean
from turngym.trainers.terms import Term
from turngym.trainers.trainee import Making


def agent(folder: Path, layers: int = 2) -> str:
    """A model's folder."""
    tokenizer = words.build()
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    model = shape.build(len(tokenizer), pad=pad, end=end, seed=0, layers=layers, width=32, heads=2)
    models.save(folder, model, tokenizer)
    return str(folder)


def batch(groups: int = 3) -> Batch:
    g = torch.Generator().manual_seed(0)
    return collate([play(g, n, m) for n in range(groups) for m in range(4)])


def near(learner: Learner, rows: Batch) -> Batch:
    """Rows that a policy close to the learner's wrote."""
    logp = learner.log_probs(rows).cpu()
    return replace(rows, behaviour=logp - 0.1 * rows.loss_mask * (rows.ids % 3))


def plan(folder: str, recipe: Any = None, *, micro: int = 40, **how: Any) -> Plan:
    made = recipe or m_grpo(kl=0.1)
    references = tuple((str(name), folder) for name in made.references if isinstance(name, str))
    making = Making(**how)
    return Plan(folder=folder, recipe=made, lr=1e-3, making=making, micro_tokens=micro, references=references)


def taught(learner: Learner, rows: Batch, updates: int = 3) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Weights after some updates, and what each of them measured."""
    logs = [learner.update(rows) for _ in range(updates)]
    return dict(learner.tensors()), logs


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference between two models' weights."""
    assert set(one) == set(other)
    return max(float((a - other[name]).abs().max()) for name, a in one.items())


@dataclass(frozen=True, kw_only=True)
class GroupSquare(Term):
    """A term of group scope: squared mean log-prob of each group."""

    name: str = "square"
    reduction: Any = token_mean

    @property
    def scope(self) -> Any:
        return "group"

    def __call__(self, output: Any, batch: Batch) -> Tensor:
        sums = output.logp.new_zeros(int(batch.group.max()) + 1)
        sums = sums.index_add(0, batch.group[batch.owner], (self.weight(batch) * output.logp).sum(1))
        return self.scale * (sums**2).sum()
