"""Episodes end in an outcome, whatever happens (rule 3), and worlds stay in their thread (rule 8)."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import pytest

from turngym.agents import Action, ContextFull, Turn
from turngym.envs import AgentError, Chat, Deadline, EnvError, JudgeError, Messages, Reply, UsageError, user
from turngym.trainers.rollout import Limits, Pinned, Spec, rollout, within


class Count(gym.Env[Messages, str]):
    """Counts to ``end``; raises ``error`` at the second step."""

    def __init__(self, end: int = 3, error: Exception | None = None, limit: int = 9) -> None:
        self.observation_space, self.action_space = Chat(), Reply(["x"])
        self.end, self.error, self.limit, self.threads, self.closed = end, error, limit, set[int](), False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.at = 0
        self.threads.add(threading.get_ident())
        return user("0"), {}

    def step(self, action: str) -> Any:
        self.threads.add(threading.get_ident())
        self.at += 1
        if self.error and self.at == 2:
            raise self.error
        return user(str(self.at)), 0.5, self.at == self.end, self.at == self.limit, {"at": self.at}

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed = True


async def speak(history: Sequence[Turn], observation: Messages) -> Action:
    return Action(f"saw {observation[-1].text} after {len(history)}")


async def mute(history: Sequence[Turn], observation: Messages) -> Action:
    raise RuntimeError("no words")


def play(env: Count, agent: Any = speak) -> Any:
    async def main() -> Any:
        with ThreadPoolExecutor(1) as thread:
            world = Pinned(lambda: env, thread)
            try:
                return await rollout(world, agent, Spec(7, "", 1), 2)
            finally:
                await world.close()

    return asyncio.run(main())


def test_an_episode_keeps_what_was_seen_done_and_paid() -> None:
    t = play(Count())
    assert (t.group, t.member, t.outcome, t.reward) == (7, 2, "terminated", 1.5)
    assert [turn.observation[-1].text for turn in t.turns] == ["0", "1", "2"]
    assert [turn.action.text for turn in t.turns] == ["saw 0 after 0", "saw 1 after 1", "saw 2 after 2"]
    assert t.final[-1].text == "3" and t.info["at"] == 3


def test_limits_are_truncated_and_scored() -> None:
    t = play(Count(end=99, limit=2))
    assert t.outcome == "truncated" and t.scored


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (EnvError("x"), "env_error"),
        (Deadline("x"), "timeout"),
        (JudgeError("x"), "judge_error"),
        (AgentError("x"), "agent_error"),
        (ValueError("a bug of the world"), "env_error"),
    ],
)
def test_a_failure_is_an_outcome_and_no_reward(error: Exception, outcome: str) -> None:
    t = play(Count(error=error))
    assert t.outcome == outcome and not t.scored and len(t.turns) == 1


def test_a_failing_agent_is_its_own_outcome() -> None:
    assert play(Count(), mute).outcome == "agent_error"


def test_a_wrong_option_is_no_outcome() -> None:
    with pytest.raises(UsageError, match="no such option"):
        play(Count(error=UsageError("no such option")))


def test_a_world_lives_in_one_thread_and_is_closed_there() -> None:
    env = Count()
    play(env)
    assert env.closed and len(env.threads) == 1 and threading.get_ident() not in env.threads


def test_a_discarded_world_is_closed_and_made_anew() -> None:
    made: list[Count] = []

    class Stuck(Count):
        def close(self) -> None:
            super().close()
            raise RuntimeError("will not close")

    def make() -> Count:
        made.append(Stuck())
        return made[-1]

    async def main() -> None:
        with ThreadPoolExecutor(1) as thread:
            world = Pinned(make, thread)
            await world.reset(0, "")
            await world.discard()
            await world.reset(0, "")

    asyncio.run(main())
    assert len(made) == 2 and made[0].closed


def test_a_full_context_is_truncated_and_scored() -> None:
    async def forgetful(history: Sequence[Turn], observation: Messages) -> Action:
        if len(history) == 2:
            raise ContextFull("too long")
        return Action("on")

    played = play(Count(), forgetful)
    assert (played.outcome, played.scored, played.reward, len(played.turns)) == ("truncated", True, 1.0, 2)


def test_a_late_action_is_a_timeout_and_what_waits_is_told() -> None:
    async def slow(history: Sequence[Turn], observation: Messages) -> Action:
        await asyncio.sleep(60 if history else 0)
        return Action("on")

    async def main() -> Any:
        with ThreadPoolExecutor(1) as thread:
            world = Pinned(Count, thread)
            try:
                limits = Limits(action=0.05)
                return await rollout(world, slow, Spec(7, "", 1), 2, limits=limits, attempt=1, doing=phases.append)
            finally:
                await world.close()

    phases: list[str] = []
    played = asyncio.run(main())
    assert (played.outcome, played.attempt, played.id, len(played.turns)) == ("timeout", 1, "train.7.2.1", 1)
    world, agent = "the world's", "the agent's action"
    assert phases == [f"{world} start", f"{world} reset", agent, f"{world} step", agent]


def test_a_time_out_of_the_bodys_own_is_no_deadline() -> None:
    async def main() -> None:
        async with within(60.0, "this"):
            raise TimeoutError("a connection's")

    with pytest.raises(TimeoutError, match="a connection's"):
        asyncio.run(main())
