"""Tasks of one turn whose difficulty is known: what a policy's table says of its success is exact."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...envs import UsageError
from .policy import Table

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Stepped:
    """What E turns led to."""

    state: Ints  # [E] the next
    reward: Reals  # [E]
    over: Bools  # [E] the world ends here


class World(Protocol):
    """States in which a turn of up to L symbols is taken.

    ``starts`` [tasks] is the state in which each task begins; an episode ends after ``turns`` turns at the latest.
    """

    @property
    def name(self) -> str: ...

    @property
    def starts(self) -> Ints: ...

    @property
    def turns(self) -> int: ...

    @property
    def gold(self) -> Ints:
        """The right symbols in each state, [S, L]."""
        ...

    def logits(self) -> Table:
        """What the policy begins with."""
        ...

    def written(self, tokens: Ints) -> Ints:
        """How many of the symbols [E, L] a policy writes before its turn ends, [E]."""
        ...

    def step(self, state: Ints, tokens: Ints, chance: Reals) -> Stepped:
        """Turns in states [E]; ``chance`` [E] is the world's own, evenly from [0, 1)."""
        ...

    def success(self, p: Table) -> Reals:
        """The probability [tasks] that a policy of these probabilities succeeds: no sampling noise."""
        ...


def known(tasks: int, low: float = 0.02, high: float = 0.95) -> tuple[float, ...]:
    """Probabilities of success, evenly spread in their log-odds."""
    first, last = float(np.log(low / (1 - low))), float(np.log(high / (1 - high)))
    return tuple((1 / (1 + np.exp(-np.linspace(first, last, tasks)))).tolist())


@dataclass(frozen=True, slots=True)
class Bank:
    """Combination locks: task i pays 1 if all ``length`` symbols of ``symbols`` are right, and begins at ``odds``[i].

    Each position begins with the right symbol at odds ** (1 / length), the others alike.
    """

    odds: tuple[float, ...] = known(16)
    symbols: int = 6
    length: int = 3
    seed: int = 0
    name: str = "bank"
    turns: int = 1

    def __post_init__(self) -> None:
        _check(self, self.odds, self.symbols, self.length)

    @property
    def starts(self) -> Ints:
        return np.arange(len(self.odds))

    @property
    def gold(self) -> Ints:
        shape = len(self.odds), self.length
        return np.random.default_rng((self.seed, 1)).integers(self.symbols, size=shape)

    def logits(self) -> Table:
        right = np.broadcast_to(np.asarray(self.odds)[:, None] ** (1 / self.length), self.gold.shape)
        rest = np.repeat(((1 - right) / (self.symbols - 1))[..., None], self.symbols, axis=-1)
        np.put_along_axis(rest, self.gold[..., None], right[..., None], -1)
        return np.log(rest)

    def written(self, tokens: Ints) -> Ints:
        return np.full(len(tokens), self.length)

    def step(self, state: Ints, tokens: Ints, chance: Reals) -> Stepped:
        return Stepped(state, (tokens == self.gold[state]).all(1).astype(float), np.full(len(state), True))

    def success(self, p: Table) -> Reals:
        right = np.take_along_axis(p, self.gold[..., None], -1)[..., 0]
        return np.asarray(right.prod(1))


@dataclass(frozen=True, slots=True)
class Wordy:
    """Questions before whose answer a policy may ramble: symbol 0 goes on, the first other one is the answer.

    The right answer pays 1, and so does no number of zeros: who has not answered after ``length`` symbols has failed.
    Each position begins with ``idle`` for symbol 0, and task i as a whole with success ``odds``[i].
    """

    odds: tuple[float, ...] = known(16, 0.05, 0.9)
    symbols: int = 6
    length: int = 8
    idle: float = 0.6
    seed: int = 0
    name: str = "wordy"
    turns: int = 1

    def __post_init__(self) -> None:
        _check(self, self.odds, self.symbols - 1, self.length)
        if not (0 < self.idle < 1 and max(self.odds) < 1 - self.idle**self.length):
            raise UsageError(f"{self}: an answer comes with probability {1 - self.idle**self.length:.3g} at most")

    @property
    def starts(self) -> Ints:
        return np.arange(len(self.odds))

    @property
    def gold(self) -> Ints:
        answer = np.random.default_rng((self.seed, 2)).integers(1, self.symbols, size=(len(self.odds), 1))
        return np.repeat(answer, self.length, axis=1)

    def logits(self) -> Table:
        idle, size = self.idle, self.symbols
        right = np.asarray(self.odds) * (1 - idle) / (1 - idle**self.length)
        p = np.repeat((1 - idle - right)[:, None] / (size - 2), size, axis=1)
        p[:, 0] = idle
        p[np.arange(len(p)), self.gold[:, 0]] = right
        return np.log(np.repeat(p[:, None], self.length, axis=1))

    def written(self, tokens: Ints) -> Ints:
        spoken = tokens != 0
        return np.where(spoken.any(1), spoken.argmax(1) + 1, self.length)

    def step(self, state: Ints, tokens: Ints, chance: Reals) -> Stepped:
        answer = tokens[np.arange(len(tokens)), self.written(tokens) - 1]
        return Stepped(state, (answer == self.gold[state, 0]).astype(float), np.full(len(state), True))

    def success(self, p: Table) -> Reals:
        right = np.take_along_axis(p, self.gold[..., None], -1)[..., 0]
        return np.asarray((self._asked(p) * right).sum(1))

    def wrong(self, p: Table) -> Reals:
        """Expected symbols of an answer that is wrong, [tasks]."""
        right = np.take_along_axis(p, self.gold[..., None], -1)[..., 0]
        wrong = self._asked(p) * (1 - p[..., 0] - right)
        wrong[:, -1] += (self._asked(p) * p[..., 0])[:, -1]
        return np.asarray((wrong * np.arange(1, self.length + 1)).sum(1) / np.maximum(wrong.sum(1), 1e-300))

    def _asked(self, p: Table) -> Reals:
        """The probability [tasks, L] that a position is written at all."""
        return np.concatenate([np.ones((len(p), 1)), p[:, :-1, 0].cumprod(1)], axis=1)


def _check(bank: Any, odds: tuple[float, ...], symbols: int, length: int) -> None:
    if not odds or not all(0 < p < 1 for p in odds) or symbols < 2 or length < 1:
        raise UsageError(f"{bank}: odds lie between 0 and 1, and there are at least two answers and one position")
