"""Learning from groups: the part of the loop that a replay shares with a run."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..envs import Failure
from .batch import collate
from .curriculum import Curriculum
from .learner import Learner
from .reuse import Reuse
from .rollout import Group, Trajectory
from .rows import GREEDY, REUSED
from .settings import Run


class Study:
    """A learner with its curriculum and its demonstrations: groups in, one update and its facts out."""

    def __init__(
        self, run: Run, learner: Learner, curriculum: Curriculum, demonstrations: Sequence[Trajectory]
    ) -> None:
        self.run, self.learner, self.curriculum, self.demonstrations = run, learner, curriculum, demonstrations
        self.reuse = Reuse(run.seed, run.reuse) if run.reuse else None

    @property
    def version(self) -> int:
        """Updates done."""
        return self.learner.version

    def draw(self, group: int) -> str:
        """The task of a group that starts now."""
        return self.curriculum.draw(group)

    def weights(self) -> dict[str, Tensor]:
        """Copies, for the samplers."""
        return dict(self.learner.tensors())

    def learn(self, groups: Sequence[Group], dropped: Sequence[Group] = ()) -> dict[str, Any]:
        """One update from ``groups``, and what it was like; of those ``dropped`` it learns what tasks are like alone.

        Raises Failure when more than ``run.max_failures`` of the episodes failed (failures are censoring).
        """
        greedy = self.run.recipe.greedy  # baselines that another recipe played teach this one nothing
        played = sorted([*groups, *dropped], key=lambda g: g.spec.group) if dropped else groups
        outcomes = shares([t for group in played for t in group.trajectories], self.run.max_failures)
        taught = self.reuse.fill(groups, self.version) if self.reuse else groups
        trajectories = [t for group in taught for t in group.trajectories if greedy or t.source != GREEDY]
        self.curriculum.update(played)
        began = time.monotonic()
        batch = collate([*trajectories, *self._rehearsed()])
        facts: dict[str, Any] = self.learner.update(batch, progress=self.version / self.run.steps)
        seconds = time.monotonic() - began
        return (
            facts
            | {f"outcome/{name}": share for name, share in outcomes.items()}
            | results(groups)
            | {f"curriculum/{task or 'all'}": known for task, known in self.curriculum.facts().items()}
            | ({"reused": sum(t.source == REUSED for t in trajectories)} if self.reuse else {})
            | {"seconds/learn": seconds, "tokens_per_second/learn": facts["tokens"] / seconds}
        )

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"learner": self.learner.state_dict(), "curriculum": self.curriculum.state_dict()}
        return state | {"tasks": [*self.curriculum.tasks]} | ({"reuse": self.reuse.state_dict()} if self.reuse else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.curriculum.load_state_dict(state["curriculum"])
        if self.reuse:
            self.reuse.load_state_dict(state["reuse"])

    def _rehearsed(self) -> list[Trajectory]:
        """The demonstrations of this update, drawn by its version."""
        count = min(self.run.rehearsal, len(self.demonstrations))
        rng = np.random.default_rng((self.run.seed, 3, self.version))
        return [self.demonstrations[i] for i in rng.permutation(len(self.demonstrations))[:count]]


def shares(trajectories: Sequence[Trajectory], limit: float) -> dict[str, float]:
    """The share of each outcome; raises Failure when more than ``limit`` of them failed."""
    counts = Counter(t.outcome for t in trajectories)
    failed = sum(not t.scored for t in trajectories) / len(trajectories)
    if failed > limit:
        shown = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
        raise Failure(f"{failed:.0%} of {len(trajectories)} episodes failed ({shown}); the first errors are above")
    return {name: n / len(trajectories) for name, n in sorted(counts.items())}


def results(groups: Sequence[Group]) -> dict[str, float]:
    """What the episodes earned and how long they were; ``spread``: the share of groups that can teach something."""
    scored = [t for group in groups for t in group.trajectories if t.counted]
    levels = defaultdict[int, list[bool]](list)
    for t in scored:
        levels[t.info.get("level", 1)].append(t.reward > 0)
    return {f"success/{level}": float(np.mean(wins)) for level, wins in sorted(levels.items())} | {
        "success": float(np.mean([t.reward > 0 for t in scored])),
        "reward": float(np.mean([t.reward for t in scored])),
        "turns": float(np.mean([len(t.turns) for t in scored])),
        "spread": float(np.mean([len({t.reward for t in g.trajectories if t.counted}) > 1 for g in groups])),
        "context": context(scored),
    }


def context(trajectories: Sequence[Trajectory]) -> float:
    """Mean tokens of a whole context, prompt and action."""
    sizes = [
        len(c.request.ids) + len(c.sample.tokens) for t in trajectories for turn in t.turns for c in turn.action.calls
    ]
    return float(np.mean(sizes)) if sizes else 0.0
