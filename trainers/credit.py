"""Credit: who gets how much of the return. Statistics are by trajectory, never by row (rule 5).

A credit is ``(batch, values) -> advantage [B, T]``; ``values`` [B, T] are a critic's, None without one. A credit that
reads them says ``valued``, one that wants a greedy episode beside each group ``greedy``, one that compares members
``grouped``. All count scored trajectories of source "policy" alone, those that say ``reuses`` also an earlier success
that stands in for one ("reused"): failures and demonstrations are in no mean and get 0. A group whose returns are equal
gets 0 exactly from the credits that compare, and so does a group of one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..envs import UsageError
from .batch import Batch
from .reductions import number
from .rows import POLICY, REUSED

Credit = Callable[[Batch, Tensor | None], Tensor]


class Around:
    """What a credit that has another one within it asks for: the same as that."""

    __slots__ = ()
    credit: Credit

    @property
    def valued(self) -> bool:
        return bool(getattr(self.credit, "valued", False))

    @property
    def greedy(self) -> bool:
        return bool(getattr(self.credit, "greedy", False))

    @property
    def grouped(self) -> bool:
        return bool(getattr(self.credit, "grouped", False))

    @property
    def reuses(self) -> bool:
        return bool(getattr(self.credit, "reuses", False))


@dataclass(frozen=True, slots=True)
class Groups:
    """Statistics of each trajectory's group, all [N]; meaningless where ``spread`` is false."""

    size: Tensor
    mean: Tensor
    squares: Tensor  # sum of squared deviations
    spread: Tensor  # bool: counted, and the group holds unequal returns

    def std(self, ddof: int) -> Tensor:
        """1 where there is no spread: an outer where alone would leave 0/0."""
        return torch.where(self.spread, (self.squares / (self.size - ddof).clamp(min=1)).sqrt(), 1.0)


def groups(batch: Batch) -> Groups:
    """Group statistics over counted trajectories, an earlier success that was put into a group among them."""
    counted, reward = batch.counted((POLICY, REUSED)), batch.reward
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

    grouped: ClassVar[bool] = True
    reuses: ClassVar[bool] = True

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        g = groups(batch)
        return spread_over_tokens(batch, torch.where(g.spread, batch.reward - g.mean, 0.0))


@dataclass(frozen=True, slots=True)
class GroupNorm:
    """A = (r - mean) / (std + eps); ``ddof`` 1 is the unbiased std.

    GRPO and M-GRPO; arXiv 2505.16421's released code uses the unbiased std and eps 1e-4 [P].
    """

    grouped: ClassVar[bool] = True
    reuses: ClassVar[bool] = True
    ddof: int = 1
    eps: float = 1e-4

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        g = groups(batch)
        gap = (batch.reward - g.mean) / (g.std(self.ddof) + self.eps)
        return spread_over_tokens(batch, torch.where(g.spread, gap, 0.0))


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """A = r - mean of the other members (RLOO)."""

    grouped: ClassVar[bool] = True
    reuses: ClassVar[bool] = True

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        g = groups(batch)
        scale = g.size / (g.size - 1).clamp(min=1)
        return spread_over_tokens(batch, torch.where(g.spread, (batch.reward - g.mean) * scale, 0.0))


@dataclass(frozen=True, slots=True)
class Shifted:
    """A = r - (mean + shift) (AsymRE, arXiv 2506.20520): below 0, the shift credits everything a little.

    Equal returns, and a lone member's, get -shift, on purpose.
    """

    shift: float = -0.1

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        counted = batch.counted((POLICY,))
        return spread_over_tokens(batch, torch.where(counted, batch.reward - groups(batch).mean - self.shift, 0.0))


@dataclass(frozen=True, slots=True)
class Quantile:
    """A = (r - b) / (std + eps), b the least return that at least a ``share`` of the group does not exceed.

    Quantile advantage estimation (QAE, arXiv 2509.22611): with binary returns only the rare outcome of a group is
    credited, successes where the success rate is at most 1 - share, else failures.
    """

    grouped: ClassVar[bool] = True
    reuses: ClassVar[bool] = True
    share: float = 0.4
    ddof: int = 1
    eps: float = 1e-4

    def __post_init__(self) -> None:
        check(self)
        if not 0 < self.share < 1:
            raise UsageError(f"{self}: the share lies between 0 and 1")

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        g, counted = groups(batch), batch.counted((POLICY, REUSED))
        mates = (batch.group[:, None] == batch.group) & counted
        below = (mates & (batch.reward <= batch.reward[:, None])).sum(1)  # members that do not exceed each return
        enough = mates & (below >= self.share * g.size[:, None] - 1e-6)
        base = batch.reward.expand_as(enough).masked_fill(~enough, torch.inf).amin(1)
        gap = (batch.reward - base) / (g.std(self.ddof) + self.eps)
        return spread_over_tokens(batch, torch.where(g.spread, gap, 0.0))


@dataclass(frozen=True, slots=True)
class BetaNorm:
    """A = (r - p) / f(p; alpha, beta), p the group's mean return and f the density of a Beta distribution (BNPO).

    arXiv 2506.02864, as its released code has it: a Beta fitted to the batch's p by moments, (a, b), gives
    alpha = 1 + a/3 and beta = 1 + b/3, at least 1. Fixed parameters are special cases: 1, 1 is the mean baseline, and
    1.5, 1.5 is GRPO's with the population's std and a factor pi/8. Where the groups' p do not differ there is nothing
    to fit, and both are 1. Raises UsageError for a return outside [0, 1].
    """

    grouped: ClassVar[bool] = True
    reuses: ClassVar[bool] = True
    alpha: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        if (self.alpha is None) != (self.beta is None):
            raise UsageError(f"{self}: give alpha and beta, or neither to have them fitted")

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        counted, g = batch.counted((POLICY,)), groups(batch)
        reward = batch.reward[counted]
        if len(reward) and not (reward.min() >= 0 and reward.max() <= 1):
            raise UsageError(f"BetaNorm wants returns from 0 to 1; these go from {reward.min():g} to {reward.max():g}")
        p = torch.where(g.spread, g.mean, 0.5)
        alpha, beta = self.shape(batch, g)
        beta_function = torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(alpha + beta)
        density = ((alpha - 1) * p.log() + (beta - 1) * (1 - p).log() - beta_function).exp()
        return spread_over_tokens(batch, torch.where(g.spread, (batch.reward - p) / density.clamp(min=1e-6), 0.0))

    def shape(self, batch: Batch, g: Groups) -> tuple[Tensor, Tensor]:
        """alpha and beta."""
        one = torch.ones_like(batch.reward.sum())
        if self.alpha is not None and self.beta is not None:
            return one * self.alpha, one * self.beta
        counted = batch.counted((POLICY,))
        size, index = number(batch.group[counted])
        p = g.mean.new_zeros(size).scatter(0, index, g.mean[counted])
        if size < 2 or p.max() == p.min():
            return one, one
        mean = p.mean()
        mass = mean * (1 - mean) / p.var() - 1
        return (1 + mass * mean / 3).clamp(min=1), (1 + mass * (1 - mean) / 3).clamp(min=1)


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
        check(self)

    def __call__(self, batch: Batch, values: Tensor | None = None) -> Tensor:
        gap = _deviation(batch)
        std = (gap.square().sum() / (batch.counted((POLICY,)).sum() - self.ddof).clamp(min=1)).sqrt()
        return spread_over_tokens(batch, gap / (std + self.eps) if gap.any() else gap)


class _Norm(Protocol):
    @property
    def ddof(self) -> int: ...

    @property
    def eps(self) -> float: ...


def check(norm: _Norm) -> None:
    """Raises UsageError for a norm that cannot be."""
    if norm.ddof not in (0, 1) or not norm.eps >= 0:
        raise UsageError(f"{norm}: ddof is 0 or 1 and eps is not negative")


def _deviation(batch: Batch) -> Tensor:
    """Returns less their mean over counted trajectories, [N]; exactly 0 where they are equal and for all others."""
    counted = batch.counted((POLICY,))
    reward = batch.reward[counted]
    if not len(reward) or reward.max() == reward.min():
        return torch.zeros_like(batch.reward)
    return torch.where(counted, batch.reward - reward.mean(), 0.0)
