"""Terms: what a recipe descends. Each is (Output, Batch) -> scalar, a sum weighted by ``batch.weights``."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from .batch import Batch
from .masks import Clip, Correction, Mask, Unit, token
from .output import Output
from .reductions import Reduction, token_mean, turn_mean
from .rows import DEMONSTRATION, POLICY

Scope = Literal["token", "trajectory", "group", "batch"]
PROXIMAL = "proximal"  # the policy at the start of an update; the learner computes its log-probs


@dataclass(frozen=True, kw_only=True)
class Term(ABC):
    """One summand of the loss.

    ``rows`` says which sources it reads, ``reduction`` how their tokens are weighed, ``scale`` its coefficient.
    ``scope`` is how far one token's gradient looks: a term beyond its token takes two passes (rule 5).
    """

    name: str
    reduction: Reduction
    scale: float = 1.0
    rows: tuple[str, ...] = (POLICY,)
    credited: ClassVar[bool] = False  # whether it reads the advantage

    @property
    def scope(self) -> Scope:
        return "token"

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the reference policies whose log-probs it reads."""
        return ()

    def weight(self, batch: Batch) -> Tensor:
        return batch.weights[self.name]

    def coefficient(self, batch: Batch) -> Tensor:
        """[B, T], nonzero wherever the term may have a gradient; rows of zeros are never run."""
        return self.weight(batch)

    @abstractmethod
    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """The term's share of the loss over the rows of ``batch``, a scalar."""


@dataclass(frozen=True, kw_only=True)
class Surrogate(Term):
    """The policy gradient: -sum w mask(r, A) correction(pi_prox/mu) r A, with r = pi/pi_prox in its unit.

    Without a ``correction`` pi_prox is mu, the policy that wrote the token. With one, pi_prox is the policy at
    the start of the update, and the detached correction accounts for mu (decoupled PPO, arXiv 2110.00641).
    """

    name: str = "policy"
    reduction: Reduction = turn_mean
    mask: Mask = Clip()
    unit: Unit = token
    correction: Correction | None = None
    credited: ClassVar[bool] = True

    @property
    def scope(self) -> Scope:
        return "token" if {self.unit, getattr(self.correction, "unit", token)} == {token} else "trajectory"

    @property
    def reads(self) -> tuple[str, ...]:
        return () if self.correction is None else (PROXIMAL,)

    def coefficient(self, batch: Batch) -> Tensor:
        return self.weight(batch) * batch.advantage

    def log_ratio(self, output: Output, batch: Batch) -> Tensor:
        """log pi/pi_prox in the term's unit, [B, T]."""
        past = batch.behaviour if self.correction is None else batch.references[PROXIMAL]
        return self.unit(output.logp - past, batch)

    def gate(self, output: Output, batch: Batch) -> Tensor:
        """The mask's factor [B, T], detached."""
        return self.mask(self.log_ratio(output, batch).detach().exp(), batch.advantage, output).detach()

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        log_ratio, gate = self.log_ratio(output, batch), self.gate(output, batch)
        push = self.coefficient(batch) * gate
        if self.correction is not None:
            push = push * self.correction(batch.references[PROXIMAL] - batch.behaviour, batch)
        # a masked ratio may be infinite, and 0 times infinity is no gradient
        ratio = log_ratio.masked_fill(push == 0, 0.0).exp()
        return -self.scale * (push * ratio).sum()


@dataclass(frozen=True, kw_only=True)
class KL(Term):
    """KL to a named reference by the k3 estimator, sum w (q/p - log q/p - 1), q the reference (GRPO)."""

    name: str = "kl"
    reference: str
    reduction: Reduction = turn_mean

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.reference,)

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        gap = (batch.references[self.reference] - output.logp).masked_fill(self.weight(batch) == 0, 0.0)
        return self.scale * (self.weight(batch) * (gap.exp() - gap - 1)).sum()


@dataclass(frozen=True, kw_only=True)
class Entropy(Term):
    """An entropy bonus: -sum w H in nats."""

    name: str = "entropy"
    reduction: Reduction = turn_mean

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        return -self.scale * (self.weight(batch) * output.entropy).sum()


@dataclass(frozen=True, kw_only=True)
class Clone(Term):
    """Negative log-likelihood of demonstrations."""

    name: str = "clone"
    reduction: Reduction = token_mean
    rows: tuple[str, ...] = (DEMONSTRATION,)

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        return -self.scale * (self.weight(batch) * output.logp).sum()
