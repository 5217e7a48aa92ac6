"""Earlier successes, put into groups that have none (AR3PO's response reuse, arXiv 2509.25808)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..envs import UsageError
from .episodes import trajectory_from_json, trajectory_to_json
from .rollout import Group, Trajectory
from .rows import REUSED

Key = tuple[str, int]  # task and seed: what the policy was asked


class Reuse:
    """The latest ``kept`` successes of each task and seed.

    A group without a success gets one of them, drawn at random, in the place of one of its episodes, also drawn. It is
    of source "reused": it counts in the group's mean and std, and whether it has a gradient of its own is the terms'
    choice. In none of them (mode II of the paper) it only shifts the baseline of the others; where they read it
    (mode I), its ratio is to be that to the policy at the start of the update.

    Whole trajectories are kept, tasks x seeds x ``kept`` of them at most, and go into every checkpoint: bound the three
    where contexts are long. Raises UsageError for less than one.
    """

    def __init__(self, seed: int, kept: int = 8) -> None:
        if kept < 1:
            raise UsageError(f"reuse must keep at least one success, not {kept}")
        self._seed, self._kept = seed, kept
        self._successes: dict[Key, list[Trajectory]] = {}

    def fill(self, groups: Sequence[Group], update: int) -> list[Group]:
        """``groups`` of update ``update``, some of them with an earlier success; then the new ones are remembered."""
        filled = [self._filled(group, update) for group in groups]
        for group in groups:
            for t in group.trajectories:
                if t.counted and t.reward > 0:
                    known = self._successes.setdefault((t.task, t.seed), [])
                    known.append(t)
                    del known[: -self._kept]
        return filled

    def state_dict(self) -> dict[str, Any]:
        return {"successes": [trajectory_to_json(t) for known in self._successes.values() for t in known]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._successes = {}
        for t in map(trajectory_from_json, state["successes"]):
            self._successes.setdefault((t.task, t.seed), []).append(t)

    def _filled(self, group: Group, update: int) -> Group:
        counted = [t for t in group.trajectories if t.counted]
        known = self._successes.get((group.spec.task, group.spec.seed), [])
        if not counted or not known or any(t.reward > 0 for t in counted):
            return group
        rng = np.random.default_rng((self._seed, 6, update, group.spec.group))
        out, old = counted[int(rng.integers(len(counted)))], known[int(rng.integers(len(known)))]
        one = replace(old, group=out.group, member=out.member, attempt=out.attempt, source=REUSED)
        return Group(group.spec, tuple(one if t is out else t for t in group.trajectories))
