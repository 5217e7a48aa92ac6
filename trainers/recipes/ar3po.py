"""AR3PO's loss (arXiv 2509.25808): GRPO's, in groups that may hold an earlier success of the same prompt.

Its adaptive rollout and its reuse of responses are how groups are played and filled, ``Stages`` and ``Reuse``.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ..batch import Batch
from ..estimator import Recipe
from ..rows import POLICY, REUSED
from ..settings import Run
from ..terms import Surrogate
from .grpo import grpo


def unweighted(log_ratio: Tensor, batch: Batch) -> Tensor:
    """A correction of 1: the ratio is to the policy at the start of the update, whoever wrote the tokens."""
    return torch.ones_like(log_ratio)


def ar3po(
    *,
    reused: bool = False,
    clip: float = 0.2,
    kl: float = 0.04,
    minibatches: int = 2,
    grad_clip: float = 1.0,
    decay: float = 0.5,
) -> Recipe:
    """GRPO's loss, the reused response being in its group's mean and std.

    Without ``reused`` (mode II of the paper) it has no gradient and shifts the baseline of the others alone. With it
    (mode I) it is learned from like the others; its old log-probs are computed anew by the policy at the start of the
    update, and there is no importance weight. The notes that this follows do not say what KL the paper has: ``kl``
    is GRPO's.
    """
    recipe = grpo(clip=clip, kl=kl, minibatches=minibatches, grad_clip=grad_clip, decay=decay)
    if not reused:
        return recipe
    policy, *others = recipe.terms
    assert isinstance(policy, Surrogate)
    return replace(recipe, terms=(replace(policy, rows=(POLICY, REUSED), correction=unweighted), *others))


def ar3po_whole() -> Run:
    """With both of its mechanisms: two stages of four, and eight successes kept of each of fifty seeds a task."""
    run = Run(name="ar3po", recipe=ar3po(), out="runs/ar3po", rehearsal=0)
    return replace(run, planner="stages", stages=2, seeds=50, reuse=8)
