"""Which task comes next."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from .rollout import Group

Name = Literal["spread", "uniform", "bins", "vade", "sec", "dump"]


class Curriculum(Protocol):
    """Draws tasks by their names; the draw of group g depends on the seed, g and the state alone."""

    tasks: tuple[str, ...]

    def draw(self, group: int) -> str:
        """The task of group number ``group``."""
        ...

    def probabilities(self) -> Mapping[str, float]:
        """Of each task, in the next draw; a task that is always possible never starves."""
        ...

    def update(self, groups: Sequence[Group]) -> None:
        """Learn from finished groups; failures say nothing about a task."""
        ...

    def facts(self) -> Mapping[str, float]:
        """What it knows of each task, for the log."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


Make = Callable[[Sequence[str], int], Curriculum]
"""Names of the tasks and the run's seed to its curriculum."""


class Drawn(ABC):
    """Draws by ``probabilities``."""

    def __init__(self, tasks: Sequence[str], seed: int) -> None:
        self.tasks, self.seed = tuple(tasks), seed

    @abstractmethod
    def probabilities(self) -> Mapping[str, float]: ...

    def draw(self, group: int) -> str:
        p = self.probabilities()
        rng = np.random.default_rng((self.seed, 2, group))
        return self.tasks[int(rng.choice(len(self.tasks), p=[p[name] for name in self.tasks]))]


class Spread(Drawn):
    """Draws templates where groups have spread: with weight max(floor, 4 p (1 - p)).

    p is a running mean of a template's success, a half before the first group; a group without spread teaches
    nothing, and 60 to 90 % of them have none under a uniform choice.
    """

    def __init__(self, tasks: Sequence[str], seed: int, *, floor: float = 0.15, memory: float = 0.8) -> None:
        super().__init__(tasks, seed)
        self.success = {name: 0.5 for name in tasks}
        self._floor, self._memory = floor, memory

    def probabilities(self) -> Mapping[str, float]:
        weights = np.array([max(self._floor, 4 * p * (1 - p)) for p in self.success.values()])
        return dict(zip(self.success, (weights / weights.sum()).tolist(), strict=True))

    def update(self, groups: Sequence[Group]) -> None:
        for group in groups:
            scored = returns(group)
            if scored:
                old, wins = self.success[group.spec.task], sum(r > 0 for r in scored)
                self.success[group.spec.task] = self._memory * old + (1 - self._memory) * wins / len(scored)

    def facts(self) -> Mapping[str, float]:
        return self.success

    def state_dict(self) -> dict[str, Any]:
        return {"success": dict(self.success)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.success = dict(state["success"])


class Uniform(Drawn):
    """Every task alike."""

    def probabilities(self) -> Mapping[str, float]:
        return dict.fromkeys(self.tasks, 1 / len(self.tasks))

    def update(self, groups: Sequence[Group]) -> None:
        pass

    def facts(self) -> Mapping[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def returns(group: Group) -> list[float]:
    """Of the episodes that say something about the task."""
    return [t.reward for t in group.trajectories if t.counted]
