"""A world of many turns that pays at its end alone."""

from dataclasses import dataclass

import numpy as np

from ...envs import UsageError
from .policy import Table
from .tasks import Ints, Reals, Stepped


@dataclass(frozen=True, slots=True)
class Corridor:
    """Corridors of ``doors`` doors; who is through the last within ``turns`` turns is paid 1, everybody else 0.

    At a door the right action (``length`` symbols of ``symbols``) leads on, any other into the side room of that door;
    whatever is done in there leads back. A policy begins with the right action at ``odds``. Task i is corridor i, of
    states of its own: first its doors, then their rooms.

    With a chance of ``wind`` a turn that does not end the episode leads to none of these, but to one of the doors,
    each as likely: what an episode is paid then says less of its actions, and the state in which it is more.
    """

    tasks: int = 4
    doors: int = 8
    turns: int = 24
    symbols: int = 6
    length: int = 2
    odds: float = 0.35
    wind: float = 0.0
    seed: int = 0
    name: str = "corridor"

    def __post_init__(self) -> None:
        if not (0 < self.odds < 1 and self.symbols >= 2 and min(self.tasks, self.length) >= 1):
            raise UsageError(f"{self}: needs odds between 0 and 1, two symbols, a task and a position")
        if not 0 <= self.wind < 1:
            raise UsageError(f"{self}: a wind is a chance, from 0 to below 1")
        if not self.turns >= self.doors >= 1:
            raise UsageError(f"{self}: {self.doors} doors take {self.doors} turns at least")

    @property
    def starts(self) -> Ints:
        return np.arange(self.tasks) * 2 * self.doors

    @property
    def gold(self) -> Ints:
        shape = self.tasks * 2 * self.doors, self.length
        return np.random.default_rng((self.seed, 3)).integers(self.symbols, size=shape)

    def logits(self) -> Table:
        right = self.odds ** (1 / self.length)
        p = np.full((*self.gold.shape, self.symbols), (1 - right) / (self.symbols - 1))
        np.put_along_axis(p, self.gold[..., None], right, -1)
        p[self._room(np.arange(len(p)))] = 1 / self.symbols
        return np.log(p)

    def written(self, tokens: Ints) -> Ints:
        return np.full(len(tokens), self.length)

    def step(self, state: Ints, tokens: Ints, chance: Reals) -> Stepped:
        right = (tokens == self.gold[state]).all(1)
        room, last = self._room(state), state % (2 * self.doors) == self.doors - 1
        through = right & last & ~room
        after = np.where(room, state - self.doors, np.where(right, state + 1, state + self.doors))
        if self.wind:
            door = (chance / self.wind * self.doors).astype(np.int64)
            after = np.where(chance < self.wind, state - state % (2 * self.doors) + door, after)
        return Stepped(np.where(through, state, after), through.astype(float), through)

    def success(self, p: Table) -> Reals:
        """By dynamic programming over the turns that are left."""
        right = np.take_along_axis(p, self.gold[..., None], -1)[..., 0].prod(1)
        on = right.reshape(self.tasks, 2, self.doors)[:, 0]  # [tasks, doors]
        doors = rooms = np.zeros((self.tasks, self.doors))  # chances from each
        paid, calm = np.ones((self.tasks, 1)), 1 - self.wind
        for _ in range(self.turns):
            blown = self.wind * doors.mean(1, keepdims=True)
            through = np.concatenate([calm * doors[:, 1:] + blown, paid], axis=1)
            doors, rooms = on * through + (1 - on) * (calm * rooms + blown), calm * doors + blown
        return np.asarray(doors[:, 0])

    def _room(self, state: Ints) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
        return np.asarray(state % (2 * self.doors) >= self.doors)
