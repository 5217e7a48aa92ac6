"""The one loop: admit, play, learn, publish; ``max_lag`` 0 makes it synchronous and nothing else changes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor

from .admission import Admission
from .demonstrations import number
from .episodes import Dump
from .log import Log
from .planner import joined, planner
from .progress import Progress
from .rollout import Begun, Group, Spec, Trajectory
from .settings import Run, exact


class Players(Protocol):
    """Who plays: worker processes, or a simulation of them."""

    @property
    def worlds(self) -> Mapping[str, Any]: ...

    def submit(self, specs: Sequence[Spec]) -> None: ...

    def collect(self, count: int) -> list[Group]: ...

    def hear(self, wait: bool = True) -> list[Group | Begun]: ...

    def publish(self, tensors: Mapping[str, Tensor], version: int) -> None: ...


class Student(Protocol):
    """Who learns: a ``Study``, or a simulation of one."""

    @property
    def version(self) -> int: ...

    def draw(self, group: int) -> str: ...

    def weights(self) -> Mapping[str, Tensor]: ...

    def learn(self, groups: Sequence[Group], dropped: Sequence[Group] = ()) -> dict[str, Any]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Loop:
    """Trains ``study`` on groups that ``players`` play; every group that it learned from goes to ``dump``."""

    def __init__(
        self,
        run: Run,
        study: Student,
        players: Players,
        log: Log,
        dump: Dump,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run, self.study, self.players = run, study, players
        self.log, self.dump, self.clock = log, dump, clock
        self.admission = self._admission()
        self.started = 0  # groups, and the number of the next
        self._open: list[int] = []  # groups started and in no update yet, oldest first
        self._started = set[int]()  # in this process
        self._finished: dict[int, Group] = {}
        self.planner = planner(run.planner, groups=run.groups, size=run.size, stages=run.stages, most=run.resample)
        self.dropped = 0  # groups that no update learned from
        self._lost: list[Group] = []  # of them, those since the last update
        self._parts: dict[int, Group] = {}  # what has been played of groups that are not complete
        self._ended: list[Group] = []  # parts that are to be decided on
        self._more: list[Spec] = []  # parts to play yet
        self._flying = 0  # parts that are played
        self.played = {"episodes": 0, "turns": 0, "tokens": 0}  # of groups that were learned from or dropped
        self.seconds = 0.0  # of all updates, those before a resume included
        self._waited = 0.0  # seconds, for the groups of this update

    def play(self, save: Callable[[], None]) -> float:
        """Up to ``run.steps`` updates, ``save`` at checkpoints; returns the last update's success.

        Raises Failure when more than ``run.max_failures`` of a batch's episodes failed.
        """
        success, done = 0.0, self.study.version
        with Progress(self.run.steps, done=done) as progress:
            for step in range(done + 1, self.run.steps + 1):
                began = self.clock()
                groups = self._groups()
                facts = self._agreement(step, groups[-1])
                lost, self._lost, before = self._lost, [], self.played["tokens"]
                self._count([*groups, *lost])
                facts |= self.study.learn(groups, lost)
                self.dump.write(step, groups, self.run.steps)
                self.players.publish(self.study.weights(), self.study.version)
                took = self.clock() - began
                self.seconds += took
                facts |= self._pace(self.played["tokens"] - before, facts, took)
                success = facts["success"]
                self.log.write(step, facts)
                progress.update(
                    success=success,
                    reward=facts["reward"],
                    entropy=facts.get("entropy", 0.0),
                    tokens_per_second=facts["tokens_per_second"],
                )
                if step % self.run.checkpoint_every == 0 or step == self.run.steps:
                    save()
        return success

    def state_dict(self) -> dict[str, Any]:
        """Student and counters; groups in flight start again with their seeds after a resume."""
        return {
            "step": self.study.version,
            "study": self.study.state_dict(),
            "started": self.started,
            "open": list(self._open),
            "dropped": self.dropped,
            "played": dict(self.played),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.study.load_state_dict(state["study"])
        self.started, self._open = state["started"], list(state["open"])
        self.dropped = state["dropped"]
        self.played, self.seconds = dict(state["played"]), state["seconds"]
        self.admission = self._admission(self.study.version)
        self.players.publish(self.study.weights(), self.study.version)

    def _admission(self, version: int = 0) -> Admission:
        run = self.run
        return Admission(run.groups, run.max_lag, run.groups * (run.max_lag + 1), soft=run.soft, version=version)

    def _groups(self) -> list[Group]:
        """The groups of the next update, played under weights at most ``max_lag`` old."""
        began, version = self.clock(), self.study.version
        self._told(self.players.hear(wait=False))
        while True:
            self._start(self.admission.room(version), version)
            if (taken := self.admission.take(version)) is not None:
                self._waited = self.clock() - began
                self._open = [g for g in self._open if g not in taken]
                return [self._finished.pop(g) for g in taken]
            self._told(self.players.hear())

    def _start(self, room: int, version: int) -> None:
        """Admit up to ``room`` groups: after a resume those that were open, then new ones."""
        again = [g for g in self._open if g not in self._started][:room]
        left = self.run.steps * self.run.groups + self.dropped - self.started
        fresh = list(range(self.started, self.started + min(room - len(again), left)))
        self.started += len(fresh)
        self._open += fresh
        for group in (*again, *fresh):
            self.admission.start(group, version)
        self._started |= {*again, *fresh}
        begun = [self.planner.first(self._spec(group)) for group in (*again, *fresh)]
        asked, self._more = [*self._more, *begun], []
        self._flying += len(asked)
        self.players.submit(asked)

    def _spec(self, group: int) -> Spec:
        place = group % self.run.seeds if self.run.seeds else group
        task, seed = self.study.draw(group), number(self.run.seed, 1, place)
        return Spec(group, task, seed, self.run.size, baseline=self.run.recipe.greedy)

    def _pace(self, sampled: int, facts: Mapping[str, Any], took: float) -> dict[str, float]:
        """Where the time went, and the ledger: groups started, learned from and open, and all that was played."""
        return {
            "seconds/wait": self._waited,
            "seconds/other": took - self._waited - facts.get("seconds/learn", 0.0),
            "tokens_per_second/play": sampled / took if took else 0.0,
            "tokens_per_second": (sampled + facts.get("tokens", 0.0)) / took if took else 0.0,
            "ledger/started": self.started,
            "ledger/learned": self.study.version * self.run.groups,
            "ledger/open": len(self._open),
            "ledger/dropped": self.dropped,
            **{f"ledger/{what}": count for what, count in self.played.items()},
        }

    def _agreement(self, step: int, ours: Group) -> dict[str, Any]:
        """Every so many updates, the share of a group's episodes that go the same way in a browser, act by act.

        Played before the learner starts: its threads and a browser on the same cores would slow each other badly.
        """
        if "browser" not in self.players.worlds or step % self.run.browser_every:
            return {}
        spec = replace(ours.spec, world="browser")
        self.players.submit([spec])
        theirs = None
        while theirs is None:
            (group,) = self.players.collect(1)
            if group.spec == spec:
                theirs = group
            else:
                self._keep(group)
        both = [(a, b) for a, b in zip(last(ours), last(theirs), strict=True) if a.scored and b.scored]
        return {"browser_agreement": sum(path(a) == path(b) for a, b in both) / len(both)} if both else {}

    def _told(self, events: Sequence[Group | Begun]) -> None:
        for event in events:
            if not isinstance(event, Begun):
                self._keep(event)
            elif event.group not in self._parts:  # a later part makes its group no younger
                self.admission.begin(event.group, event.version)

    def _keep(self, part: Group) -> None:
        """Decide on what has been played: at once, or in an exact run when all that is under way has ended."""
        self._ended.append(part)
        self._flying -= 1
        if exact(self.run) and self._flying:
            return
        ended, self._ended = sorted(self._ended, key=lambda p: p.spec.group), []
        for one in ended:
            self._decide(one)

    def _decide(self, part: Group) -> None:
        number = part.spec.group
        group = joined(self._parts.pop(number, None), part)
        more = self.planner.more(group)
        if more is not None:
            self._parts[number] = group
            self._more.append(more)
        elif self.planner.keeps(group, len(self._lost)):
            self._finished[number] = group
            self.admission.finish(number)
        else:
            self.admission.drop(number)
            self._open.remove(number)
            self.dropped += 1
            self._lost.append(group)

    def _count(self, groups: Sequence[Group]) -> None:
        for t in (t for group in groups for t in group.trajectories):
            self.played["episodes"] += 1
            self.played["turns"] += len(t.turns)
            self.played["tokens"] += sum(len(c.sample.tokens) for turn in t.turns for c in turn.action.calls)


def last(group: Group) -> list[Trajectory]:
    """The last attempt of each member."""
    return list({t.member: t for t in group.trajectories}.values())


def path(trajectory: Trajectory) -> tuple[tuple[str, ...], float]:
    """What was done and what it earned."""
    return tuple(turn.action.text for turn in trajectory.turns), trajectory.reward
