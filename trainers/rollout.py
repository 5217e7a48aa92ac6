"""Play: a world and an agent make a trajectory."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..agents import Agent, Turn
from ..envs import Env, Failure, Messages, UsageError

Outcome = Literal["terminated", "truncated", "env_error", "agent_error", "judge_error", "timeout"]
Step = tuple[Messages, float, bool, bool, dict[str, Any]]  # observation, reward, terminated, truncated, info
SCORED: frozenset[str] = frozenset({"terminated", "truncated"})  # the rest are failures (rule 3)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One seat's episode, from reset to outcome.

    ``group`` is unique in a run; members of a group played the same task from the same seed. ``source`` tells
    sampled trajectories ("policy") from demonstrations ("demonstration"), which are in no group statistic.
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

    @property
    def reward(self) -> float:
        """The undiscounted return."""
        return sum(t.reward for t in self.turns)

    @property
    def scored(self) -> bool:
        """Whether the return means anything: failures are censored, not zero."""
        return self.outcome in SCORED

    @property
    def info(self) -> dict[str, Any]:
        """What the world said at the last turn."""
        return dict(self.turns[-1].info) if self.turns else {}


@dataclass(frozen=True, slots=True)
class Spec:
    """What to play: a group of ``size`` episodes of one task from one seed.

    ``task`` is the template that the world's reset is asked for; "" leaves the choice to the world. ``world`` names
    one of the run's worlds, ``greedy`` takes the likeliest tokens instead of sampling.
    """

    group: int
    task: str
    seed: int
    size: int = 1
    world: str = "train"
    greedy: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The episodes of one Spec."""

    spec: Spec
    trajectories: tuple[Trajectory, ...]


class World(Protocol):
    """A blocking world behind an awaitable face: every call runs in the one thread that it is pinned to (rule 8)."""

    async def reset(self, seed: int, task: str) -> tuple[Messages, dict[str, Any]]: ...

    async def step(self, action: str) -> Step: ...

    async def cheat(self) -> str: ...


class Pinned:
    """A Gymnasium world pinned to one thread; ``close`` runs there too."""

    def __init__(self, make: Callable[[], Env], thread: Executor) -> None:
        self._make, self._thread = make, thread
        self._env: Env | None = None

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

    async def discard(self) -> None:
        """Close a world that failed, whatever it says; the next reset makes a new one."""
        try:
            await self.close()
        except Exception as error:  # it is broken already
            logging.getLogger("turngym").warning("closing a failed world: %s: %s", type(error).__name__, error)

    async def _run(self, call: Callable[..., Any], *values: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *values)

    def _reset(self, seed: int, task: str) -> tuple[Messages, dict[str, Any]]:
        if self._env is None:
            self._env = self._make()
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


async def rollout(world: World, agent: Agent, spec: Spec, member: int) -> Trajectory:
    """One episode, to its end or to a failure, which becomes the trajectory's outcome (rule 3).

    Raises UsageError alone: a wrong option is the user's to mend, and no episode's outcome.
    """
    turns: list[Turn] = []
    observation: Messages = ()
    outcome: Outcome
    failing: Outcome = "env_error"
    try:
        observation, info = await world.reset(spec.seed, spec.task)
        while True:
            failing = "agent_error"
            action = await agent(turns, observation)
            failing = "env_error"
            following, reward, terminated, truncated, info = await world.step(action.text)
            turns.append(Turn(observation, action, reward, info))
            observation = following
            if terminated or truncated:
                outcome = "terminated" if terminated else "truncated"
                break
    except UsageError:
        raise
    except Failure as error:
        outcome = error.outcome
        _note(spec, member, outcome, error)
    except Exception as error:  # a world or a model may raise anything; it is a failure, not a reward
        outcome = failing
        _note(spec, member, outcome, error)
    name = f"{spec.world}.{spec.group}.{member}"
    return Trajectory(name, spec.task, spec.seed, spec.group, member, tuple(turns), observation, outcome)


def _note(spec: Spec, member: int, outcome: str, error: Exception) -> None:
    logging.getLogger("turngym").warning(
        "episode %d.%d of %s: %s: %s: %s", spec.group, member, spec.task, outcome, type(error).__name__, error
    )
