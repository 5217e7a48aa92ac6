"""Reference policies: what a term compares the policy with."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..envs import UsageError
from .batch import Batch
from .output import Network, Output, View, survey

PRESENT = "policy"  # the policy itself: a part of a mixture, or its own teacher in another context


@dataclass(frozen=True, slots=True)
class Periodic:
    """The policy as it was at the start of the last update whose number ``every`` divides; 1: of this update."""

    name: str = "periodic"
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"{self}: every is a number of updates, at least 1")


@dataclass(frozen=True, slots=True)
class Soup:
    """The mean of several models' weights (SALSA): ``of`` names models that are given to the learner."""

    of: tuple[str, ...]
    name: str = "soup"

    def __post_init__(self) -> None:
        if len(self.of) < 2:
            raise UsageError(f"{self}: a soup needs at least two models")


@dataclass(frozen=True, slots=True)
class Mixture:
    """The normalised product a^(1 - share) b^share of two policies' distributions (Nash-MD, IPO-MD).

    ``of`` names two other references, or "policy" for the present policy, into which no gradient flows from here.
    """

    of: tuple[str, str]
    share: float = 0.5
    name: str = "mixture"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"{self}: the share lies between 0 and 1")
        if self.name in self.of:
            raise UsageError(f"{self}: a mixture is no part of itself")


Reference = str | Periodic | Soup | Mixture
"""A plain name is a frozen model that the learner is given."""


def called(reference: Reference) -> str:
    """The name by which terms refer to it."""
    return reference if isinstance(reference, str) else reference.name


def given(references: Iterable[Reference]) -> list[str]:
    """Names of the models that a learner must be given for these, sorted."""
    names = set[str]()
    for reference in references:
        match reference:
            case str():
                names.add(reference)
            case Soup(of=of):
                names |= {*of}
    return sorted(names)


def parts(references: Iterable[Reference]) -> set[str]:
    """Names that mixtures refer to, the policy's own aside."""
    return {name for r in references if isinstance(r, Mixture) for name in r.of} - {PRESENT}


class References:
    """The reference policies of one learner. Raises UsageError if a model is given that none asks for.

    One that is missing is an error when it is first read: a batch may bring its own log-probs.
    """

    def __init__(
        self, references: Iterable[Reference], models: Mapping[str, nn.Module | Network], policy: nn.Module | Network
    ) -> None:
        wanted = {called(r): r for r in references}
        needed = given(wanted.values())
        if set(models) - set(needed):
            raise UsageError(f"models {sorted(models)} are given, but the recipe refers to {needed}")
        self._mixtures = {name: r for name, r in wanted.items() if isinstance(r, Mixture)}
        self._periodic = {name: r.every for name, r in wanted.items() if isinstance(r, Periodic)}
        self._networks = {name: m if isinstance(m, Network) else Network(m) for name, m in models.items()}
        for name, reference in wanted.items():
            if isinstance(reference, Soup) and set(reference.of) <= set(models):
                self._networks[name] = Network(_mean([self._networks[n].model for n in reference.of]))
        if self._periodic:
            self._policy = policy if isinstance(policy, Network) else Network(policy)
        self._networks |= {name: self._policy.twin() for name in self._periodic}

    def refresh(self, version: int) -> None:
        """At the start of update ``version``: periodic references whose time has come become the policy."""
        for name, every in self._periodic.items():
            if version % every == 0:
                self._networks[name].model.load_state_dict(dict(self._policy.weights()))

    def views(self) -> dict[str, View]:
        """How each sees an output's rows."""
        return (
            {PRESENT: lambda output, context: _Frozen(output.network, output, context)}
            | {name: _view(network) for name, network in self._networks.items()}
            | {name: _blend(mixture) for name, mixture in self._mixtures.items()}
        )

    def log_probs(self, name: str, network: Network, batch: Batch, tokens: int) -> Tensor:
        """Log-probability [B, T] of each written token under the reference ``name``; ``network`` is the policy's."""
        views = self.views()

        def read(output: Output) -> Tensor:
            return Output(network, output.batch, others=views).other(name).logp

        return survey(network, batch, tokens, read)

    def state_dict(self) -> dict[str, Any]:
        """Only what changes."""
        return {name: self._networks[name].model.state_dict() for name in self._periodic}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self._periodic:
            self._networks[name].model.load_state_dict(state[name])


def _view(network: Network) -> View:
    return lambda output, context: _Frozen(network, output, context)


def _blend(mixture: Mixture) -> View:
    return lambda output, context: _Blend(mixture, output, context)


class _Frozen(Output):
    """A network's output on the rows of ``policy``, or on a context of theirs, without gradient."""

    def __init__(self, network: Network, policy: Output, context: str) -> None:
        super().__init__(network, policy.batch.within(context) if context else policy.batch)
        if not context and network.nodes == policy.network.nodes:
            self.forest = policy.forest

    @cached_property
    def logits(self) -> Tensor:
        with torch.no_grad():
            return super().logits


class _Blend(Output):
    """The mixture of two outputs, without gradient."""

    def __init__(self, mixture: Mixture, policy: Output, context: str) -> None:
        super().__init__(None, policy.batch.within(context) if context else policy.batch)
        self._parts = [policy.other(name, context) for name in mixture.of]
        self._share = mixture.share

    @cached_property
    def logits(self) -> Tensor:
        a, b = (part.distribution for part in self._parts)
        return (1 - self._share) * a + self._share * b


def _mean(models: list[nn.Module]) -> nn.Module:
    """A model whose weights are the mean of theirs. Raises UsageError where they are of different shapes."""
    soup, states = deepcopy(models[0]), [m.state_dict() for m in models]
    try:
        mean = {n: torch.stack([s[n].double() for s in states]).mean(0).to(t.dtype) for n, t in states[0].items()}
    except (KeyError, RuntimeError) as error:
        raise UsageError(f"the models of a soup must be of one shape: {error}") from error
    soup.load_state_dict(mean)
    return soup
