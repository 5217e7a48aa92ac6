"""The whole loop without a model and without waiting: simulated worlds and a simulated trainer under virtual time.

For tests of the loop's rules and for studying schedules: what a latency law costs, what a bound on lag buys.
"""

import asyncio
import selectors
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..agents import Action, Call, Request, Turn
from ..agents.samplers import ScriptedSampler
from ..envs import Messages, TurngymError, user
from .episodes import Dump
from .log import Log
from .loop import Loop
from .rollout import Begun, Group, Limits, Spec, Step, Trajectory, rollout
from .settings import Run

T = TypeVar("T")
Law = Callable[[np.random.Generator], float]
"""Seconds that a step of a world takes."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next event; nothing waits."""

    def __init__(self) -> None:
        super().__init__(_Leaping(self))
        self.now = 0.0  # seconds

    def time(self) -> float:
        return self.now


class _Leaping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise TurngymError("the simulation is stuck: everybody waits, and nothing is to happen")
        self._loop.now += max(timeout, 0.0)
        return super().select(0)


@dataclass(frozen=True, slots=True)
class World:
    """Episodes of ``turns`` steps that take what ``law`` says; ``pay`` is the reward, given the seconds it took."""

    law: Law
    turns: int = 5
    pay: Callable[[float], float] = lambda seconds: 1.0
    fail: float = 0.0  # share of steps that raise

    def open(self, seed: tuple[int, ...]) -> "_Open":
        return _Open(self, np.random.default_rng(seed))


@dataclass(slots=True)
class _Open:
    world: World
    rng: np.random.Generator
    left: int = 0
    seconds: float = 0.0

    async def start(self) -> None: ...

    async def reset(self, seed: int, task: str) -> tuple[Messages, dict[str, Any]]:
        self.left, self.seconds = self.world.turns, 0.0
        return user(task), {}

    async def step(self, action: str) -> Step:
        seconds = self.world.law(self.rng)
        await asyncio.sleep(seconds)
        if self.rng.random() < self.world.fail:
            raise RuntimeError("simulated failure")
        self.left, self.seconds = self.left - 1, self.seconds + seconds
        return user("on"), 0.0 if self.left else self.world.pay(self.seconds), not self.left, False, {}

    async def cheat(self) -> str:
        return ""


class Players:
    """Plays with the scripted sampler, ``slots`` episodes at once (0: all), in virtual time."""

    worlds: Mapping[str, Any] = {}

    def __init__(
        self, world: World, *, seed: int = 0, token: float = 0.01, limits: Limits | None = None, slots: int = 0
    ) -> None:
        self.loop, self.world, self.seed, self.limits = VirtualLoop(), world, seed, limits or Limits()
        self.sampler = ScriptedSampler(lambda ids, weights: torch.zeros(8), seconds=token)
        self._room = asyncio.Semaphore(slots or sys.maxsize)
        self._heard: asyncio.Queue[Group | Begun] = asyncio.Queue()
        self._tasks = set[asyncio.Task[None]]()

    @property
    def now(self) -> float:
        return self.loop.now

    def submit(self, specs: Sequence[Spec]) -> None:
        for spec in specs:
            task = self.loop.create_task(self._group(spec))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def collect(self, count: int) -> list[Group]:
        groups: list[Group] = []
        while len(groups) < count:
            if isinstance(event := self.run(self._heard.get()), Group):
                groups.append(event)
        return groups

    def hear(self, wait: bool = True) -> list[Group | Begun]:
        heard = [self.run(self._heard.get())] if wait else []
        while not self._heard.empty():
            heard.append(self._heard.get_nowait())
        return heard

    def publish(self, tensors: Mapping[str, Tensor], version: int) -> None:
        self.sampler.publish(tensors.items(), version)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let time pass until ``work`` is done."""
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.run(_ended([*self._tasks]))
        self.loop.close()

    async def _group(self, spec: Spec) -> None:
        waiting = True

        async def member(number: int) -> Trajectory:
            nonlocal waiting
            async with self._room:
                if waiting:
                    waiting = False
                    self._heard.put_nowait(Begun(spec.group, self.sampler.version))
                return await self._episode(spec, number)

        played = await asyncio.gather(*map(member, spec.members))
        self._heard.put_nowait(Group(spec, tuple(played)))

    async def _episode(self, spec: Spec, member: int) -> Trajectory:
        key = (self.seed, spec.group, member)
        return await rollout(self.world.open(key), _Agent(self.sampler, key), spec, member, limits=self.limits)


async def _ended(tasks: Sequence["asyncio.Task[None]"]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Agent:
    """Says four random tokens."""

    sampler: ScriptedSampler
    key: tuple[int, ...]

    async def __call__(self, history: Sequence[Turn], observation: Messages) -> Action:
        request = Request((1, 2), max_tokens=4, seed=(*self.key, len(history)))
        return Action("on", (Call("policy", request, await self.sampler(request)),))


@dataclass(slots=True)
class Student:
    """A trainer whose update takes ``seconds`` and teaches nothing; keeps what it was given."""

    players: Players
    seconds: float
    version: int = 0
    batches: list[list[Group]] = field(default_factory=list)

    def draw(self, group: int) -> str:
        return f"task {group}"

    def weights(self) -> dict[str, Tensor]:
        return {}

    def learn(self, groups: Sequence[Group], dropped: Sequence[Group] = ()) -> dict[str, Any]:
        self.batches.append(list(groups))
        self.players.run(asyncio.sleep(self.seconds))
        self.version += 1
        scored = [t for g in groups for t in g.trajectories if t.scored]
        reward = float(np.mean([t.reward for t in scored])) if scored else 0.0
        return {"success": reward, "reward": reward, "seconds/learn": self.seconds}

    def state_dict(self) -> dict[str, Any]:
        return {"version": self.version}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.version = state["version"]


@dataclass(frozen=True, slots=True)
class Simulated:
    """Virtual ``seconds`` of the run, the groups of each update, and how old each update's oldest token was."""

    seconds: float
    batches: tuple[tuple[Group, ...], ...]
    lags: tuple[int, ...]


def simulate(run: Run, world: World, out: Path | str, *, learning: float = 1.0, token: float = 0.01) -> Simulated:
    """Run ``run``'s loop in ``world``: its ``steps``, ``groups``, ``size``, planner, ``max_lag``, ``soft``, ``slots``.

    ``learning`` is the seconds of an update, ``token`` those of a token; log and episodes lie in ``out``.
    """
    players = Players(world, seed=run.seed, token=token, slots=run.slots)
    student = Student(players, learning)
    try:
        with Log(out) as log:
            Loop(run, student, players, log, Dump(out), clock=lambda: players.now).play(lambda: None)
    finally:
        players.close()
    batches = tuple(tuple(batch) for batch in student.batches)
    return Simulated(players.now, batches, tuple(max(lags(batch, v)) for v, batch in enumerate(batches)))


def lags(groups: Sequence[Group], version: int) -> list[int]:
    """Of every token, when ``version`` learns from it."""
    return [
        version - written
        for group in groups
        for t in group.trajectories
        for turn in t.turns
        for call in turn.action.calls
        for written in call.sample.versions
    ]
