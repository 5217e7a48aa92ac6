"""Play: a world and an agent make a trajectory."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..agents import Agent, ContextFull, Turn
from ..envs import Deadline, Env, Failure, Messages, UsageError
from ..wrappers import Isolated

Outcome = Literal["terminated", "truncated", "env_error", "agent_error", "judge_error", "timeout"]
Step = tuple[Messages, float, bool, bool, dict[str, Any]]  # observation, reward, terminated, truncated, info
STARTING = 300.0  # seconds that a world with a deadline may take to be made: many may start at once
SCORED: frozenset[str] = frozenset({"terminated", "truncated"})  # the rest are failures (rule 3)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One seat's episode, from reset to outcome.

    ``group`` is unique in a run; members of a group played the same task from the same seed. ``source`` tells
    sampled trajectories ("policy") from demonstrations ("demonstration"), greedy baselines ("greedy") and earlier ones
    that are used again ("reused").
    """

    id: str
    task: str
    seed: int
    group: int
    member: int
    turns: tuple[Turn, ...]
    final: Messages
    outcome: Outcome
    seat: str = ""
    source: str = "policy"
    attempt: int = 0  # a member that failed may be played again: all its attempts are in the group

    @property
    def reward(self) -> float:
        """The undiscounted return."""
        return sum(t.reward for t in self.turns)

    @property
    def scored(self) -> bool:
        """Whether the return means anything: failures are censored, not zero."""
        return self.outcome in SCORED

    @property
    def counted(self) -> bool:
        """Whether the statistics of its group hold it: a scored episode that the policy sampled."""
        return self.scored and self.source == "policy"

    @property
    def info(self) -> dict[str, Any]:
        """What the world said at the last turn."""
        return dict(self.turns[-1].info) if self.turns else {}


@dataclass(frozen=True, slots=True)
class Spec:
    """What to play: a group of ``size`` episodes of one task from one seed.

    ``task`` is the template that the world's reset is asked for; "" leaves the choice to the world. ``world`` names
    one of the run's worlds, ``greedy`` takes the likeliest tokens instead of sampling, ``baseline`` plays one episode
    more that does so, of source "greedy". ``first`` is the number of the first member: a planner may have a group
    played in parts.
    """

    group: int
    task: str
    seed: int
    size: int = 1
    world: str = "train"
    greedy: bool = False
    baseline: bool = False
    first: int = 0

    @property
    def members(self) -> range:
        """Of the episodes to play."""
        return range(self.first, self.first + self.size + self.baseline)

    def is_baseline(self, member: int) -> bool:
        """Whether this member is the greedy episode beside the group."""
        return self.baseline and member == self.first + self.size

    def takes_likeliest(self, member: int) -> bool:
        """Whether this member's actions are greedy."""
        return self.greedy or self.is_baseline(member)


@dataclass(frozen=True, slots=True)
class Group:
    """The episodes of one Spec."""

    spec: Spec
    trajectories: tuple[Trajectory, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """The first episode of a group has a slot; all its tokens will be of ``version`` or a later one."""

    group: int
    version: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines in seconds, 0 for none: of an agent's action, of a world's reset or step, of a whole episode."""

    action: float = 0.0
    step: float = 0.0
    episode: float = 0.0


class World(Protocol):
    """A blocking world behind an awaitable face: every call runs in the one thread that it is pinned to (rule 8)."""

    async def start(self) -> None: ...

    async def reset(self, seed: int, task: str) -> tuple[Messages, dict[str, Any]]: ...

    async def step(self, action: str) -> Step: ...

    async def cheat(self) -> str: ...


class Pinned:
    """A Gymnasium world pinned to one thread; ``close`` runs there too."""

    def __init__(self, make: Callable[[], Env], thread: Executor) -> None:
        self._make, self._thread = make, thread
        self._env: Env | None = None

    async def start(self) -> None:
        """Make the world, unless it is there."""
        await self._run(self._start)

    async def reset(self, seed: int, task: str) -> tuple[Messages, dict[str, Any]]:
        first: tuple[Messages, dict[str, Any]] = await self._run(self._reset, seed, task)
        return first

    async def step(self, action: str) -> Step:
        following: Step = await self._run(self._step, action)
        return following

    async def cheat(self) -> str:
        """The gold action for the present observation; raises UsageError where the world knows none."""
        return str(await self._run(self._cheat))

    async def close(self) -> None:
        await self._run(self._close)

    async def discard(self, *, kill: bool = True) -> None:
        """Close a world that failed, whatever it says; the next reset makes a new one.

        A world in a process of its own is killed first: its thread may wait for a step that never ends.
        """
        if kill and isinstance(self._env, Isolated):
            self._env.kill()
        try:
            await self.close()
        except Exception as error:  # it is broken already
            logging.getLogger("turngym").warning("closing a failed world: %s: %s", type(error).__name__, error)

    async def _run(self, call: Callable[..., Any], *values: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *values)

    def _start(self) -> None:
        if self._env is None:
            self._env = self._make()
        if isinstance(self._env, Isolated):
            self._env.start()

    def _reset(self, seed: int, task: str) -> tuple[Messages, dict[str, Any]]:
        self._start()
        assert self._env is not None
        return self._env.reset(seed=seed, options={"template": task} if task else None)

    def _step(self, action: str) -> Step:
        assert self._env is not None, "reset comes before step"
        observation, reward, terminated, truncated, info = self._env.step(action)
        return observation, float(reward), terminated, truncated, info

    def _cheat(self) -> str:
        return cheat(self._env)

    def _close(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            env.close()


def cheat(env: Env | None) -> str:
    """The world's own next gold action; raises UsageError where it offers none."""
    gold = getattr(env.unwrapped if env else None, "cheat", None)
    if gold is None:
        raise UsageError("this world has no gold actions (a method cheat() -> str): no demonstrations come from it")
    return str(gold())


async def rollout(
    world: World,
    agent: Agent,
    spec: Spec,
    member: int,
    *,
    limits: Limits = Limits(),
    attempt: int = 0,
    doing: Callable[[str], None] = lambda what: None,
) -> Trajectory:
    """One episode, to its end or to a failure, which becomes the trajectory's outcome (rule 3).

    ``doing`` is told what the episode waits for. Raises UsageError alone: a wrong option is the user's to mend, and
    no episode's outcome.
    """
    played = _Played()
    try:
        doing("the world's start")
        async with within(STARTING if limits.step or limits.episode else 0.0, "the world's start"):
            await world.start()
        async with within(limits.episode, "the episode"):
            await _play(world, agent, spec, limits, doing, played)
    except UsageError:
        raise
    except Failure as error:
        played.outcome = error.outcome
        _note(spec, member, played.outcome, error)
    except Exception as error:  # a world or a model may raise anything; it is a failure, not a reward
        played.outcome = played.failing
        _note(spec, member, played.outcome, error)
    name = f"{spec.world}.{spec.group}.{member}" + (f".{attempt}" if attempt else "")
    turns, final = tuple(played.turns), played.observation
    return Trajectory(
        name, spec.task, spec.seed, spec.group, member, turns, final, played.outcome, attempt=attempt,
        source="greedy" if spec.is_baseline(member) else "policy",
    )  # fmt: skip


@dataclass(slots=True)
class _Played:
    """An episode so far."""

    turns: list[Turn]
    observation: Messages
    outcome: Outcome
    failing: Outcome  # the outcome, should anything be raised now

    def __init__(self) -> None:
        self.turns, self.observation, self.outcome, self.failing = [], (), "env_error", "env_error"


async def _play(
    world: World, agent: Agent, spec: Spec, limits: Limits, doing: Callable[[str], None], played: _Played
) -> None:
    doing("the world's reset")
    async with within(limits.step, "the world's reset"):
        played.observation, _ = await world.reset(spec.seed, spec.task)
    while True:
        played.failing = "agent_error"
        doing("the agent's action")
        try:
            async with within(limits.action, "the agent's action"):
                action = await agent(played.turns, played.observation)
        except ContextFull:
            played.outcome = "truncated"  # a limit that the agent reached by itself: scored like one of turns
            return
        played.failing = "env_error"
        doing("the world's step")
        async with within(limits.step, "the world's step"):
            following, reward, terminated, truncated, info = await world.step(action.text)
        played.turns.append(Turn(played.observation, action, reward, info))
        played.observation = following
        if terminated or truncated:
            played.outcome = "terminated" if terminated else "truncated"
            return


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """Raises Deadline when the body takes longer than ``seconds``; 0 is no limit."""
    scope = asyncio.timeout(seconds or None)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if scope.expired():
            raise Deadline(f"{what} took longer than {seconds:g} s") from error
        raise


def _note(spec: Spec, member: int, outcome: str, error: Exception) -> None:
    logging.getLogger("turngym").warning(
        "episode %d.%d of %s: %s: %s: %s", spec.group, member, spec.task, outcome, type(error).__name__, error
    )
