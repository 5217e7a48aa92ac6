"""Worker processes: groups come back, mistakes and deaths are told, silence is noticed, closing ends all."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from processes import alive

from turngym.envs import EnvError, UsageError
from turngym.trainers.player import Setting
from turngym.trainers.rollout import Begun, Group, Spec
from turngym.trainers.workers import Workers

WORLD = '''
import time
import gymnasium as gym
from turngym.envs import Chat, Reply, UsageError, user

class Odd(Exception):
    """Can be pickled, and not unpickled."""

    def __init__(self, one, two):
        super().__init__("only one of two")

class World(gym.Env):
    """One turn; its task says how."""

    def __init__(self):
        self.observation_space, self.action_space = Chat(), Reply(["a"])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.task = (options or {}).get("template", "")
        return user(self.task), {}

    def cheat(self):
        return "a"

    def step(self, action):
        if self.task == "usage":
            raise UsageError("the user's own mistake")
        if self.task == "slow":
            time.sleep(1.0)
        if self.task == "hang":
            time.sleep(1000)
        return user("on"), 1.0, True, False, {"odd": Odd(1, 2)} if self.task == "odd" else {}

gym.register("Worker-v0", entry_point=World)
'''
SETTING = Setting("worker_world:Worker-v0", (("train", ()),), "gold")


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("worlds")
    (folder / "worker_world.py").write_text(WORLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield


@pytest.mark.parametrize("together", [True, False])
def test_every_group_comes_back_once(together: bool) -> None:
    with Workers(replace(SETTING, together=together), 2) as workers:
        workers.submit([Spec(i, "fine", i, 3) for i in range(4)])
        workers.submit([Spec(9, "slow", 9, 1), Spec(10, "fine", 10, 1)])
        groups = workers.collect(6)
    assert sorted(g.spec.group for g in groups) == [0, 1, 2, 3, 9, 10]
    assert all(t.outcome == "terminated" for g in groups for t in g.trajectories)
    assert not any(alive(process.pid or 0) for process in workers._processes)


def test_a_group_is_heard_of_when_it_begins_and_when_it_ends() -> None:
    with Workers(SETTING, 1) as workers:
        assert workers.hear(wait=False) == []
        workers.submit([Spec(4, "fine", 4, 2)])
        heard = workers.hear()
        while not isinstance(heard[-1], Group):
            heard += workers.hear()
    assert [e if isinstance(e, Begun) else e.spec.group for e in heard] == [Begun(4, 0), 4]


def test_without_togetherness_a_slow_group_holds_up_nobody() -> None:
    with Workers(replace(SETTING, together=False, threads=2), 1) as workers:
        workers.submit([Spec(0, "slow", 0, 1)])
        workers.submit([Spec(1, "fine", 1, 1)])
        assert [g.spec.group for g in workers.collect(2)] == [1, 0]


@pytest.mark.parametrize("together", [True, False])
def test_a_mistake_of_the_user_reaches_the_user(together: bool) -> None:
    with Workers(replace(SETTING, together=together), 1) as workers:
        workers.submit([Spec(0, "usage", 0, 1)])
        with pytest.raises(UsageError, match="own mistake"):
            workers.collect(1)


def test_an_answer_that_cannot_be_read_is_an_error() -> None:
    with Workers(SETTING, 1) as workers:
        workers.submit([Spec(0, "odd", 0, 1)])
        with pytest.raises(EnvError, match="cannot be read"):
            workers.collect(1)


def test_the_order_to_end_is_heard_in_the_middle_of_a_play() -> None:
    with Workers(replace(SETTING, threads=2), 1) as workers:
        workers.submit([Spec(0, "fine", 0, 1)])
        workers.collect(1)
        workers.submit([Spec(1, "hang", 1, 2)])
        time.sleep(0.5)
    assert [process.exitcode for process in workers._processes] == [0], "it was killed"


def test_a_worker_without_a_sign_of_life_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with Workers(replace(SETTING, stall=1.5), 1) as workers:
        workers.submit([Spec(0, "fine", 0, 1)])
        workers.collect(1)
        pid = workers._processes[0].pid or 0
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.6)
        with caplog.at_level(logging.WARNING, "turngym"):
            workers._complain()
        os.kill(pid, signal.SIGCONT)
        workers.submit([Spec(1, "fine", 1, 1)])
        assert workers.collect(1)[0].spec.group == 1
    assert f"stuck: rollout worker 0 (process {pid}) has given no sign of life for" in caplog.text


def test_a_killed_worker_is_an_error() -> None:
    with Workers(SETTING, 1) as workers:
        pid = workers._processes[0].pid or 0
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EnvError, match="worker ended"):
            workers.collect(1)
    assert not alive(pid)


def test_closing_in_the_middle_of_a_play_ends_it() -> None:
    with Workers(replace(SETTING, together=False), 1) as workers:
        workers.submit([Spec(i, "slow", i, 1) for i in range(3)])
        time.sleep(0.5)
    assert not any(alive(process.pid or 0) for process in workers._processes)


def test_no_workers_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Workers(SETTING, 0)
