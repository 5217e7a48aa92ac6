"""Curricula that are bandits: an arm is a task, its reward the mean |advantage| of the groups that played it.

A large |advantage| is a large gradient. It is computed from the returns alone with GRPO's normalisation, whatever
credit the run's recipe gives: of k successes in a group of n, p = k / n, its mean is 2 sqrt(p (1 - p) (n - 1) / n).
"""

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from ..envs import UsageError
from .curriculum import Drawn, returns
from .rollout import Group


class Softmax(Drawn):
    """Draws by a softmax of scores: (1 - uniform) exp(score / temperature) / sum + uniform / tasks.

    The ``uniform`` share is ours, in no paper: a low temperature would starve a task. Raises UsageError for a
    temperature that is not positive, or a share that is not above 0 and at most 1.
    """

    def __init__(self, tasks: Sequence[str], seed: int, *, temperature: float, uniform: float) -> None:
        super().__init__(tasks, seed)
        if temperature <= 0 or not 0 < uniform <= 1:
            raise UsageError(f"temperature={temperature} must be positive, and uniform={uniform} above 0, at most 1")
        self._temperature, self._uniform = temperature, uniform

    @abstractmethod
    def scores(self) -> Mapping[str, float]:
        """Of each task: the higher, the more often it is drawn."""

    def probabilities(self) -> Mapping[str, float]:
        scores = self.scores()
        known = np.array([scores[task] for task in self.tasks])
        weights = np.exp((known - known.max()) / self._temperature)
        p = (1 - self._uniform) * weights / weights.sum() + self._uniform / len(self.tasks)
        return dict(zip(self.tasks, p.tolist(), strict=True))


class SelfEvolving(Softmax):
    """Self-Evolving Curriculum (SEC, arXiv 2505.14970): Q <- Q + alpha (r - Q), drawn by a softmax of Q.

    r is the mean |advantage| over the episodes of a task in an update, Q begins at 0: a non-stationary bandit with the
    update of TD(0). Checked against verl/utils/auto_curriculum/priority.py of the authors' code (ServiceNow/sec, read
    in a copy, Vincent-La/cofa), whose runs have alpha 0.5 and temperatures 0.2, 0.4 (mathematics) and 1; the paper's
    equations were not at hand.

    Ours: a category is a task; an arm that an update did not play keeps its Q (the code takes its reward for 0, which
    with few groups an update would forget tasks for not having been drawn); the uniform share.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        seed: int,
        *,
        alpha: float = 0.5,
        temperature: float = 0.4,
        uniform: float = 0.05,
    ) -> None:
        super().__init__(tasks, seed, temperature=temperature, uniform=uniform)
        if not 0 < alpha <= 1:
            raise UsageError(f"alpha={alpha} must be above 0 and at most 1")
        self._alpha = alpha
        self.value = dict.fromkeys(self.tasks, 0.0)

    def scores(self) -> Mapping[str, float]:
        return self.value

    def update(self, groups: Sequence[Group]) -> None:
        for task, gains in learned(groups).items():
            self.value[task] += self._alpha * (fmean(gains) - self.value[task])

    def facts(self) -> Mapping[str, float]:
        """Q of each task."""
        return self.value

    def state_dict(self) -> dict[str, Any]:
        return {"value": dict(self.value)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value = dict(state["value"])


class UpperConfidence(Softmax):
    """DUMP (arXiv 2504.09710): a softmax of L + sqrt(2 ln(N + 1) / (n + 1)).

    L is the mean |advantage| of a task's latest ``window`` episodes (0 before the first), n counts its episodes since
    the run's start, N those of all tasks. Formula, window and temperature are those of the file
    verl/utils/curriculum_learning.py in the authors' code (ZhentingWang/DUMP); the paper's equations were not at hand.

    Ours: a distribution is a task; the uniform share.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        seed: int,
        *,
        window: int = 300,
        temperature: float = 0.1,
        uniform: float = 0.05,
    ) -> None:
        super().__init__(tasks, seed, temperature=temperature, uniform=uniform)
        if window < 1:
            raise UsageError(f"window={window} must be at least 1")
        self._window = window
        self.played = dict.fromkeys(self.tasks, 0)
        self._recent: dict[str, list[float]] = {task: [] for task in self.tasks}

    def scores(self) -> Mapping[str, float]:
        whole = 2 * math.log(sum(self.played.values()) + 1)
        return {task: gain + math.sqrt(whole / (self.played[task] + 1)) for task, gain in self.facts().items()}

    def update(self, groups: Sequence[Group]) -> None:
        for task, gains in learned(groups).items():
            self.played[task] += len(gains)
            self._recent[task] = [*self._recent[task], *gains][-self._window :]

    def facts(self) -> Mapping[str, float]:
        """Mean |advantage| of each task in its window."""
        return {task: fmean(recent) if recent else 0.0 for task, recent in self._recent.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"played": dict(self.played), "recent": {task: [*gains] for task, gains in self._recent.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.played = dict(state["played"])
        self._recent = {task: [*gains] for task, gains in state["recent"].items()}


def advantages(scored: Sequence[float]) -> list[float]:
    """|r - mean| / std of a group's returns; exactly 0 for equal returns, and for a lone one.

    The std is unbiased, as in verl, which both papers build on, and in ``GroupNorm``, but nothing is added to it.
    """
    if len(set(scored)) < 2 or not (std := stdev(scored)):  # the least of floats have a deviation of 0
        return [0.0] * len(scored)
    mean = fmean(scored)
    return [abs(r - mean) / std for r in scored]


def learned(groups: Sequence[Group]) -> Mapping[str, list[float]]:
    """|advantage| of the counted episodes, by task; a task without one is not there."""
    found = defaultdict[str, list[float]](list)
    for group in groups:
        if scored := returns(group):
            found[group.spec.task] += advantages(scored)
    return found
