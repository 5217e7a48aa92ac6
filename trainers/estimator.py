"""One estimator: a recipe is a sum of terms, a credit, and how often to step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..envs import UsageError
from .batch import Batch
from .credit import Credit
from .critics import Build
from .masks import Cap, Clip, Implicit, Soft
from .output import Output
from .reductions import Gated, Rare, number, reach
from .references import PRESENT, Reference, called, parts
from .regularizers import KL, SAMPLED
from .rows import GREEDY, POLICY, REUSED
from .selective import Balanced
from .shaping import Penalty, Standardised
from .terms import PROXIMAL, Surrogate, Term, Value

RATIOS = (Clip, Cap, Soft, Implicit, Balanced)  # masks that go by the ratio alone, and do nothing where it is 1


@dataclass(frozen=True, slots=True)
class Update:
    """How one batch becomes optimiser steps: at most ``epochs`` x ``minibatches``.

    ``target_kl`` (nats a token, k3 to the behaviour policy) ends the update before a step that starts beyond
    it; ``grad_clip`` bounds the gradient's norm; over the last share ``decay`` of the run the learning rate falls
    linearly to a tenth. Raises UsageError for values that would do nothing.
    """

    epochs: int = 1
    minibatches: int = 1
    target_kl: float | None = None
    grad_clip: float | None = None
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.minibatches < 1:
            raise UsageError(f"{self}: epochs and minibatches must be at least 1")
        if not 0 <= self.decay <= 1:
            raise UsageError(f"{self}: decay is a share of the run, from 0 to 1")
        if any(limit is not None and not limit > 0 for limit in (self.target_kl, self.grad_clip)):
            raise UsageError(f"{self}: target_kl and grad_clip must be above 0, or None")
        if self.target_kl is not None and self.epochs * self.minibatches == 1:
            raise UsageError(f"{self}: target_kl ends an update early, and one of a single step has no early end")

    def factor(self, progress: float) -> float:
        """Of the learning rate, when the share ``progress`` of the run's updates is done."""
        late = max(0.0, progress - 1 + self.decay)
        return 1 - 0.9 * late / self.decay if late else 1.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An algorithm, whole: what to descend, how to credit, how often to step, which policies to refer to.

    Before credit ``scale`` standardises the returns and ``penalty`` puts a KL into them; ``critic`` gives the credit
    its values. Raises UsageError for a part that nothing would read, and for a term or a credit that lacks its part
    (rule 9).
    """

    terms: tuple[Term, ...]
    credit: Credit | None = None
    update: Update = Update()
    references: tuple[Reference, ...] = ()
    critic: Build | None = None
    penalty: Penalty | None = None
    scale: Standardised | None = None

    def __post_init__(self) -> None:
        names = [t.name for t in self.terms]
        if not names or len(set(names)) < len(names):
            raise UsageError(f"a recipe needs terms of different names; these are {names}")
        credited = [t.name for t in self.terms if t.credited]
        if credited and self.credit is None:
            raise UsageError(f"terms {credited} read the advantage: give the recipe a credit")
        if self.credit is not None and not credited:
            raise UsageError(f"the credit {self.credit} is set, but no term of {names} reads the advantage")
        here = sorted(called(r) for r in self.references)
        seen = {name for t in self.terms for name in t.sees} | parts(self.references)
        needed = sorted((self.read | seen) - {PROXIMAL, PRESENT})
        if here != needed:
            raise UsageError(f"references are {here}, but terms, penalty and mixtures read {needed}")
        valued = bool(getattr(self.credit, "valued", False))
        taught = any(isinstance(t, Value) for t in self.terms)
        if self.critic is None and (valued or taught):
            raise UsageError(f"the credit {self.credit} or a term of {names} reads values: give the recipe a critic")
        if self.critic is not None and not (valued or taught):
            raise UsageError(f"the critic {self.critic} is set, but neither the credit nor a term of {names} reads it")
        self._check_readers(names, taught)

    def _check_readers(self, names: list[str], taught: bool) -> None:
        shaped = [part for part in (self.scale, self.penalty) if part is not None]
        if shaped and self.credit is None and not taught and not any(t.rewarded for t in self.terms):
            raise UsageError(f"{shaped[0]} is set, but neither a credit nor a term of {names} reads the rewards")
        reductions = {t.name: t.reduction for t in self.terms}
        gated = [name for name, r in reductions.items() if isinstance(r, Gated)]
        if shaped and gated:
            raise UsageError(f"{gated} go by success, a return above 0, which {shaped[0]} changes: leave one out")
        blind = [name for name, r in reductions.items() if isinstance(r, Rare)]
        if blind and self.credit is None:
            raise UsageError(f"the reduction of {blind} reads the advantage: give the recipe a credit")
        if any(PROXIMAL in t.sees for t in self.terms):
            raise UsageError(f"of {PROXIMAL!r} there are log-probs alone: refer to Periodic(every=1) for distributions")

    @property
    def read(self) -> set[str]:
        """Names of all reference policies whose log-probs are read, the proximal one among them."""
        penalty = () if self.penalty is None else (self.penalty.reference,)
        return {*penalty, *(name for t in self.terms for name in t.reads)}

    @property
    def greedy(self) -> bool:
        """Whether the credit wants one more episode of each group, played greedily."""
        return bool(getattr(self.credit, "greedy", False))

    @property
    def sources(self) -> set[str]:
        """Sources that some term reads."""
        return {source for t in self.terms for source in t.rows}

    @property
    def compares(self) -> bool:
        """Whether it learns from how a group's members differ, so that a lone one teaches nothing."""
        joint = any(t.scope == "group" for t in self.terms)
        return joint or any(getattr(part, "grouped", False) for part in (self.credit, self.critic))

    @property
    def reuses(self) -> bool:
        """Whether its credit counts an earlier success that was put into a group."""
        return bool(getattr(self.credit, "reuses", False))

    def drifts(self, lagged: bool) -> list[str]:
        """KL terms that old episodes bias: they carry no importance weight (``KL.correction``)."""
        if not lagged:
            return []
        return [t.name for t in self.terms if isinstance(t, KL) and t.estimator in SAMPLED and t.correction is None]

    def idle(self, lagged: bool) -> list[str]:
        """Terms whose mask can never act: the only step of an update starts where every ratio is 1.

        ``lagged``: other weights than the learner's may have written the tokens. It moves no ratio to pi_prox.
        """
        if self.update.epochs * self.update.minibatches > 1:
            return []
        masked = [t for t in self.terms if isinstance(t, Surrogate) and isinstance(t.mask, RATIOS)]
        return [t.name for t in masked if t.correction is not None or not lagged]

    def alone(self) -> "Recipe":
        """The recipe for when there are no demonstrations: without the terms that read nothing else.

        Raises UsageError if none is left.
        """
        terms = tuple(t for t in self.terms if POLICY in t.rows)
        if not terms:
            raise UsageError(f"terms {[t.name for t in self.terms]} learn from demonstrations, and there are none")
        read = {name for t in terms for name in (*t.reads, *t.sees)}
        read |= {self.penalty.reference} if self.penalty else set()
        mixed = parts(r for r in self.references if called(r) in read)
        return replace(self, terms=terms, references=tuple(r for r in self.references if called(r) in read | mixed))

    def penalised(self, batch: Batch) -> Batch:
        """``batch`` with the penalty in its rewards, if there is one; it must hold the reference's log-probs."""
        return batch if self.penalty is None else self.penalty(batch)

    def credited(self, batch: Batch, values: Tensor | None = None) -> Batch:
        """``batch`` with its advantage and what each term needs; ``values`` [B, T] are the critic's.

        Raises UsageError if it holds a source that nothing reads, or no greedy baseline where the credit wants one.
        """
        beside = ({GREEDY} if self.greedy else set()) | ({REUSED} if self.reuses else set())
        lost = set(batch.source) - self.sources - beside
        if lost:
            raise UsageError(f"trajectories of source {sorted(lost)} would teach nothing: no term reads them")
        if self.greedy and GREEDY not in batch.source:
            raise UsageError(f"{self.credit} wants a greedy episode beside each group, and there is none: play them")
        if values is not None:
            targets = {t.name: t.target_of(batch, values) for t in self.terms if isinstance(t, Value)}
            batch = replace(batch, values=values, targets=targets)
        return batch if self.credit is None else replace(batch, advantage=self.credit(batch, values))

    def weighed(self, batch: Batch, progress: float = 0.0) -> Batch:
        """``batch`` with every term's weights; ``batch`` is all that one optimiser step is to see.

        ``progress`` is the share of the run that is done: schedules of terms go by it.
        """
        weights = {t.name: t.reduction(batch, batch.counted(t.rows)) for t in self.terms}
        late = {t.name: t.schedule(progress) for t in self.terms if t.schedule is not None}
        return replace(batch, weights=weights | {name: weights[name] * factor for name, factor in late.items()})

    def prepared(self, batch: Batch, values: Tensor | None = None) -> Batch:
        """Penalised, credited and weighed as one step."""
        return self.weighed(self.credited(self.penalised(batch), values))

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Each term's scalar; the loss is their sum."""
        return {t.name: t(output, batch) for t in self.terms}

    def active(self, batch: Batch) -> Tensor:
        """Bool [B]: the rows that a forward pass needs; all others have no gradient for any term."""
        rows = torch.zeros_like(batch.owner, dtype=torch.bool)
        for t in self.terms:
            # beyond a token's scope, all rows of the kin that count are read, whether they weigh or not
            counted = batch.counted(t.rows)[batch.owner]
            rows |= counted & reach(kin(t, batch), (t.coefficient(batch) != 0).any(1))
        return rows


def kin(term: Term, batch: Batch) -> Tensor:
    """Keys [B]: rows of one key must be seen together by ``term``."""
    match term.scope:
        case "token":
            return torch.arange(len(batch.owner), device=batch.owner.device)
        case "trajectory":
            return batch.owner
        case "group":
            return batch.group[batch.owner]
        case "batch":
            return torch.zeros_like(batch.owner)


def joint(terms: Sequence[Term], batch: Batch) -> list[Term]:
    """The terms that cannot be computed row by row on ``batch``."""
    return [t for t in terms if number(kin(t, batch))[0] < len(batch.owner)]


def pushes(terms: Sequence[Term], logp: Tensor, batch: Batch, **known: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """First of two passes (rule 5): the terms' values, and c = dL/dlogp [B, T] on the whole batch.

    The gradient of sum(c * logp), added over any micro-batches, is that of the terms. ``known`` is what else masks may
    read of the output, without gradient.
    """
    with torch.enable_grad():
        leaf = logp.detach().requires_grad_()
        output = Output.given(batch, leaf, **known)
        values = {t.name: t(output, batch) for t in terms}
        (c,) = torch.autograd.grad(torch.stack(list(values.values())).sum(), leaf)
    return {name: value.detach() for name, value in values.items()}, c
