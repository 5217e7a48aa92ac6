"""Credit: who gets how much of the return. Statistics are by trajectory, never by row (rule 5).

A credit is ``(batch, values) -> advantage [B, T]``; ``values`` [B, T] are a critic's, None without one. The
group credits here count scored trajectories of source "policy" alone: failures and demonstrations are in no
mean and get 0. A group whose returns are equal gets 0 exactly, and so does a group of one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..envs import UsageError
from .batch import Batch
from .reductions import number
from .rows import POLICY

Credit = Callable[[Batch, Tensor | None], Tensor]


@dataclass(frozen=True, slots=True)
class Groups:
    """Statistics of each trajectory's group, all [N]; meaningless where ``spread`` is false."""

    size: Tensor
    mean: Tensor
    squares: Tensor  # sum of squared deviations
    spread: Tensor  # bool: counted, and the group holds unequal returns


def groups(batch: Batch) -> Groups:
    """Group statistics over counted trajectories."""
    counted, reward = batch.counted((POLICY,)), batch.reward
    count, index = number(batch.group)

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(count).index_add(0, index, values * counted)[index]

    def extreme(how: str) -> Tensor:
        out = reward.new_zeros(count)
        return out.scatter_reduce(0, index[counted], reward[counted], how, include_self=False)[index]

    size = total(torch.ones_like(reward)).clamp(min=1)
    mean = total(reward) / size
    # rounding must not become a gradient: equal returns are told apart by comparison, never by a variance
    spread = counted & (extreme("amax") > extreme("amin"))
    return Groups(size, mean, total((reward - mean) ** 2), spread)


def spread_over_tokens(batch: Batch, advantage: Tensor) -> Tensor:
    """``advantage`` [N] on every token that its trajectory wrote, [B, T]."""
    return advantage[batch.owner][:, None] * batch.loss_mask


@dataclass(frozen=True, slots=True)
class GroupMean:
    """A = r - mean (Dr. GRPO)."""

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        g = groups(batch)
        return spread_over_tokens(batch, torch.where(g.spread, batch.reward - g.mean, 0.0))


@dataclass(frozen=True, slots=True)
class GroupNorm:
    """A = (r - mean) / (std + eps); ``ddof`` 1 is the unbiased std.

    GRPO and M-GRPO; arXiv 2505.16421's released code uses the unbiased std and eps 1e-4 [P].
    """

    ddof: int = 1
    eps: float = 1e-4

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        g = groups(batch)
        std = (g.squares / (g.size - self.ddof).clamp(min=1)).sqrt()
        # an outer where alone would leave 0/0 at eps = 0
        std = torch.where(g.spread, std, 1.0)
        return spread_over_tokens(batch, torch.where(g.spread, (batch.reward - g.mean) / (std + self.eps), 0.0))


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """A = r - mean of the other members (RLOO)."""

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        g = groups(batch)
        scale = g.size / (g.size - 1).clamp(min=1)
        return spread_over_tokens(batch, torch.where(g.spread, (batch.reward - g.mean) * scale, 0.0))


@dataclass(frozen=True, slots=True)
class BatchMean:
    """A = r - mean over all trajectories of the batch: REINFORCE with its simplest baseline; 0 where all are equal."""

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        return spread_over_tokens(batch, _deviation(batch))


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """A = (r - mean) / (std + eps) over the whole batch (REINFORCE++, arXiv 2501.03262); 0 where all are equal."""

    ddof: int = 1
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        gap = _deviation(batch)
        std = (gap.square().sum() / (batch.counted((POLICY,)).sum() - self.ddof).clamp(min=1)).sqrt()
        return spread_over_tokens(batch, gap / (std + self.eps) if gap.any() else gap)


def _check(norm: GroupNorm | BatchNorm) -> None:
    if norm.ddof not in (0, 1) or not norm.eps >= 0:
        raise UsageError(f"{norm}: ddof is 0 or 1 and eps is not negative")


def _deviation(batch: Batch) -> Tensor:
    """Returns less their mean over counted trajectories, [N]; exactly 0 where they are equal and for all others."""
    counted = batch.counted((POLICY,))
    reward = batch.reward[counted]
    if not len(reward) or reward.max() == reward.min():
        return torch.zeros_like(batch.reward)
    return torch.where(counted, batch.reward - reward.mean(), 0.0)
