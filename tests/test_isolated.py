"""A world in a process of its own: what it does, raises, and leaves behind."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import alive, children, files, wait

from turngym.envs import Chat, EnvError, Reply, UsageError, user
from turngym.wrappers import Isolated

WORLD = """
import os, signal, time
import gymnasium as gym
from turngym.envs import Chat, EnvError, Reply, user

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("only one of two")

class World(gym.Env):
    metadata = {"render_modes": ["ansi"]}

    def __init__(self):
        self.observation_space, self.action_space = Chat(), Reply(["a", "b"])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return user(f"{seed} {options} {int(self.np_random.integers(100))}"), {"pid": os.getpid()}

    def step(self, action):
        if action == "hang":
            while True:
                time.sleep(60)
        if action == "spin":
            while True:
                pass
        if action == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if action == "leave":
            os._exit(3)
        if action == "raise":
            raise EnvError("on purpose")
        if action == "odd":
            raise Odd(1, 2)
        return user(action.upper()), 0.5, action == "end", False, {"n": 1}

    def cheat(self):
        return "end"

class Broken(World):
    def __init__(self):
        raise ValueError("cannot be made")
"""


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("worlds")
    (folder / "some_world.py").write_text(WORLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield


@pytest.fixture
def world() -> Iterator[Isolated]:
    import some_world  # type: ignore[import-not-found]

    world = Isolated(some_world.World)
    yield world
    world.close()


def test_it_is_the_world_that_it_holds(world: Isolated) -> None:
    world.start()
    world.start()
    assert world.observation_space == Chat() and world.action_space == Reply(["a", "b"])
    assert world.metadata == {"render_modes": ["ansi"]}
    first, info = world.reset(seed=3, options={"template": "x"})
    assert first[0].text.startswith("3 {'template': 'x'} ")
    assert info == {"pid": world.pid} and world.pid != os.getpid()
    assert world.reset(seed=3, options={"template": "x"})[0] == first
    assert world.step("a") == (user("A"), 0.5, False, False, {"n": 1})
    assert world.cheat() == "end" and world.step("end")[2]


def test_what_it_raises_is_raised_here_and_it_goes_on(world: Isolated) -> None:
    world.reset(seed=0)
    with pytest.raises(EnvError, match="on purpose"):
        world.step("raise")
    with pytest.raises(EnvError, match="Odd: only one of two"):
        world.step("odd")
    assert world.step("a")[0] == user("A")


@pytest.mark.parametrize(("action", "said"), [("die", "ended with signal 11"), ("leave", "ended with code 3")])
def test_a_process_that_ends_is_an_error_of_the_world(world: Isolated, action: str, said: str) -> None:
    world.reset(seed=0)
    for act in (action, "a"):
        with pytest.raises(EnvError, match=said):
            world.step(act)
    assert not alive(world.pid)


@pytest.mark.parametrize("action", ["hang", "spin"])
def test_a_step_that_never_ends_is_ended_by_kill(world: Isolated, action: str) -> None:
    world.reset(seed=0)
    killer = threading.Timer(0.2, world.kill)
    killer.start()
    with pytest.raises(EnvError, match="signal 9"):
        world.step(action)
    killer.join()


def test_closing_leaves_no_process_and_no_file() -> None:
    import some_world

    before = children(), files()
    worlds = [Isolated(some_world.World) for _ in range(3)]
    worlds[0].reset(seed=0)
    worlds[1].kill()
    for world in worlds:
        world.close()
        world.close()
    wait(lambda: (children(), files()) == before)


def test_a_world_that_cannot_be_made_says_why_and_leaves_nothing() -> None:
    import some_world

    before = children()
    world = Isolated(some_world.Broken)
    with pytest.raises(ValueError, match="cannot be made"):
        world.reset(seed=0)
    with pytest.raises(EnvError, match="ended with code 0"):
        world.step("a")
    world.close()
    Isolated(some_world.Broken).close()  # before anybody waited for it
    wait(lambda: children() == before)


def test_a_world_without_gold_actions_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from gymnasium import Env\nfrom turngym.envs import Chat, Reply\n\n\nclass Silent(Env):\n"
    (tmp_path / "silent_world.py").write_text(text + "    observation_space, action_space = Chat(), Reply(['a'])\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import silent_world  # type: ignore[import-not-found]

    world = Isolated(silent_world.Silent)
    with pytest.raises(UsageError, match="no gold actions"):
        world.cheat()
    world.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_it_follows_its_parent_into_death(tmp_path: Path) -> None:
    """A killed parent leaves no world behind, even one that hangs."""
    import some_world

    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            world = Isolated(some_world.World)
            os.write(theirs, str(world.pid).encode())
            world.reset(seed=0)
            world.step("hang")
        finally:
            os._exit(1)
    pid = int(os.read(ours, 20))
    time.sleep(0.2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait(lambda: not alive(pid))
    os.close(ours)
    os.close(theirs)
