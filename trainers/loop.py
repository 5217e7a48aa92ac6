"""The one loop: admit, play, learn, publish; ``max_lag`` 0 makes it synchronous and nothing else changes."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..envs import Failure
from .admission import Admission
from .batch import collate
from .curriculum import Spread
from .demonstrations import number
from .learner import Learner
from .log import Log
from .progress import Progress
from .rollout import Group, Spec, Trajectory
from .settings import Run
from .workers import Workers


class Loop:
    """Trains ``learner`` on groups that ``workers`` play, the tasks drawn by ``curriculum``."""

    def __init__(
        self,
        run: Run,
        learner: Learner,
        curriculum: Spread,
        workers: Workers,
        demonstrations: Sequence[Trajectory],
        log: Log,
    ) -> None:
        self.run, self.learner, self.curriculum = run, learner, curriculum
        self.workers, self.demonstrations, self.log = workers, demonstrations, log
        self.admission = Admission(run.groups, run.max_lag, slots=run.groups * (run.max_lag + 1))
        self.started = 0  # groups, and the number of the next
        self._open: list[int] = []  # groups started and in no update yet, oldest first
        self._started = set[int]()  # in this process
        self._finished: dict[int, Group] = {}
        self.seconds = 0.0  # of all updates, those before a resume included
        self._waited = 0.0  # seconds, for the groups of this update

    def play(self, save: Callable[[], None]) -> float:
        """Up to ``run.steps`` updates, ``save`` at checkpoints; returns the last update's success.

        Raises Failure when more than ``run.max_failures`` of a batch's episodes failed.
        """
        success, done = 0.0, self.learner.version
        with Progress(self.run.steps, done=done) as progress:
            for step in range(done + 1, self.run.steps + 1):
                began = time.monotonic()
                groups = self._groups()
                facts = self._agreement(step, groups[-1]) | self._learn(groups)
                self.seconds += time.monotonic() - began
                success = facts["success"]
                self.log.write(step, facts)
                progress.update(
                    success=success,
                    reward=facts["reward"],
                    entropy=facts["entropy"],
                    tokens_per_second=facts["tokens_per_second"],
                )
                if step % self.run.checkpoint_every == 0 or step == self.run.steps:
                    save()
        return success

    def state_dict(self) -> dict[str, Any]:
        """Learner, curriculum and counters; groups in flight start again with their seeds after a resume."""
        return {
            "step": self.learner.version,
            "learner": self.learner.state_dict(),
            "curriculum": self.curriculum.state_dict(),
            "started": self.started,
            "open": list(self._open),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.curriculum.load_state_dict(state["curriculum"])
        self.started, self._open = state["started"], list(state["open"])
        self.seconds, version = state["seconds"], self.learner.version
        slots = self.run.groups * (self.run.max_lag + 1)
        self.admission = Admission(self.run.groups, self.run.max_lag, slots, version=version)
        self.workers.publish(dict(self.learner.tensors()), version)

    def _groups(self) -> list[Group]:
        """The groups of the next update, played under weights at most ``max_lag`` old."""
        began, version = time.monotonic(), self.learner.version
        while True:
            self._start(self.admission.room(version), version)
            if (taken := self.admission.take(version)) is not None:
                self._waited = time.monotonic() - began
                self._open = [g for g in self._open if g not in taken]
                return [self._finished.pop(g) for g in taken]
            for group in self.workers.collect(1):
                self._keep(group)

    def _start(self, room: int, version: int) -> None:
        """Admit up to ``room`` groups: after a resume those that were open, then new ones."""
        again = [g for g in self._open if g not in self._started][:room]
        left = self.run.steps * self.run.groups - self.started
        fresh = list(range(self.started, self.started + min(room - len(again), left)))
        self.started += len(fresh)
        self._open += fresh
        for group in (*again, *fresh):
            self.admission.start(group, version)
        self._started |= {*again, *fresh}
        self.workers.submit([self._spec(group) for group in (*again, *fresh)])

    def _spec(self, group: int) -> Spec:
        return Spec(group, self.curriculum.draw(group), number(self.run.seed, 1, group), self.run.size)

    def _learn(self, groups: Sequence[Group]) -> dict[str, Any]:
        """One update from ``groups``, and what it was like."""
        self.curriculum.update(groups)
        trajectories = [t for group in groups for t in group.trajectories]
        outcomes = self._outcomes(trajectories)
        began = time.monotonic()
        facts: dict[str, Any] = self.learner.update(
            collate([*trajectories, *self._rehearsed()]), progress=self.learner.version / self.run.steps
        )
        self.workers.publish(dict(self.learner.tensors()), self.learner.version)
        learning = time.monotonic() - began
        scored = [t for t in trajectories if t.scored]
        sampled = sum(len(c.sample.tokens) for t in trajectories for turn in t.turns for c in turn.action.calls)
        levels = defaultdict[int, list[bool]](list)
        for t in scored:
            levels[t.info.get("level", 1)].append(t.reward > 0)
        return (
            facts
            | {f"outcome/{name}": share for name, share in outcomes.items()}
            | {f"success/{level}": float(np.mean(wins)) for level, wins in sorted(levels.items())}
            | {f"curriculum/{task or 'all'}": p for task, p in self.curriculum.success.items()}
            | {
                "success": float(np.mean([t.reward > 0 for t in scored])),
                "reward": float(np.mean([t.reward for t in scored])),
                "turns": float(np.mean([len(t.turns) for t in scored])),
                "spread": float(np.mean([len({t.reward for t in g.trajectories if t.scored}) > 1 for g in groups])),
                "context": context(trajectories),
                "seconds/play": self._waited,
                "seconds/learn": learning,
                "tokens_per_second": (sampled + facts["tokens"]) / (self._waited + learning),
            }
        )

    def _rehearsed(self) -> list[Trajectory]:
        """The demonstrations of this update, drawn by its version."""
        count = min(self.run.rehearsal, len(self.demonstrations))
        rng = np.random.default_rng((self.run.seed, 3, self.learner.version))
        return [self.demonstrations[i] for i in rng.permutation(len(self.demonstrations))[:count]]

    def _outcomes(self, trajectories: Sequence[Trajectory]) -> dict[str, float]:
        """The share of each outcome; raises Failure when too many failed (failures are censoring)."""
        counts = Counter(t.outcome for t in trajectories)
        failed = sum(not t.scored for t in trajectories) / len(trajectories)
        if failed > self.run.max_failures:
            shown = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
            raise Failure(f"{failed:.0%} of {len(trajectories)} episodes failed ({shown}); the first errors are above")
        return {name: n / len(trajectories) for name, n in sorted(counts.items())}

    def _agreement(self, step: int, ours: Group) -> dict[str, float]:
        """Every so many updates, the share of a group's episodes that go the same way in a browser, act by act.

        Played before the learner starts: its threads and a browser on the same cores would slow each other badly.
        """
        if "browser" not in self.workers.worlds or step % self.run.browser_every:
            return {}
        spec = replace(ours.spec, world="browser")
        self.workers.submit([spec])
        theirs = None
        while theirs is None:
            (group,) = self.workers.collect(1)
            if group.spec == spec:
                theirs = group
            else:
                self._keep(group)
        both = [(a, b) for a, b in zip(ours.trajectories, theirs.trajectories, strict=True) if a.scored and b.scored]
        return {"browser_agreement": sum(path(a) == path(b) for a, b in both) / len(both)} if both else {}

    def _keep(self, group: Group) -> None:
        self._finished[group.spec.group] = group
        self.admission.finish(group.spec.group)


def path(trajectory: Trajectory) -> tuple[tuple[str, ...], float]:
    """What was done and what it earned."""
    return tuple(turn.action.text for turn in trajectory.turns), trajectory.reward


def context(trajectories: Sequence[Trajectory]) -> float:
    """Mean tokens of a whole context, prompt and action."""
    sizes = [
        len(c.request.ids) + len(c.sample.tokens) for t in trajectories for turn in t.turns for c in turn.action.calls
    ]
    return float(np.mean(sizes)) if sizes else 0.0
