"""A world in a process of its own: it may hang or crash, and is killed without harm to anything else (rule 8)."""

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym

from ..envs import Env, EnvError, Messages, UsageError

_CHILD = "import sys; from turngym.wrappers.isolated import serve; serve(int(sys.argv[1]))"


class Isolated(gym.Env[Messages, str]):
    """Runs the world that ``make`` gives in a fresh process; ``make`` must be picklable.

    The constructor does not wait for the world: ``start`` does, and ``reset``. What the world raises is raised here. A
    process that ends by itself is an EnvError, at this call and every later one. ``kill`` may be called from any
    thread, while another waits in ``start`` or ``step``; that one gets the EnvError.
    """

    def __init__(self, make: Callable[[], Env]) -> None:
        self._pipe, theirs = Pipe()
        fd = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(fd)], pass_fds=(fd,), stdin=subprocess.DEVNULL
        )
        theirs.close()
        self._make: Callable[[], Env] | None = make

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Wait until the world is made; raises what its making raised."""
        if self._make is None:
            return
        make, self._make = self._make, None
        try:
            self._pipe.send(sys.path)  # where ``make`` may be found
            self._pipe.send(make)
        except OSError as error:
            raise EnvError(self._epitaph()) from error
        self.observation_space, self.action_space, self.metadata = self._answer()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, dict[str, Any]]:
        first: tuple[Messages, dict[str, Any]] = self._ask("reset", seed, options)
        return first

    def step(self, action: str) -> tuple[Messages, float, bool, bool, dict[str, Any]]:
        following: tuple[Messages, float, bool, bool, dict[str, Any]] = self._ask("step", action)
        return following

    def cheat(self) -> str:
        """The world's own next gold action; raises UsageError where it has none."""
        return str(self._ask("cheat"))

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()

    def close(self) -> None:
        """Let the world close itself; a process that has not ended in five seconds is killed. May be called twice."""
        if self._pipe.closed:
            return
        with suppress(OSError):  # it may have gone already
            self._pipe.send(None)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe.close()

    def _ask(self, name: str, *values: object) -> Any:
        self.start()
        try:
            self._pipe.send((name, values))
        except OSError as error:
            raise EnvError(self._epitaph()) from error
        return self._answer()

    def _answer(self) -> Any:
        try:
            good, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise EnvError(self._epitaph()) from error
        if not good:
            raise value
        return value

    def _epitaph(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "the world's process closed its pipe"
        return f"the world's process ended with {f'signal {-code}' if code < 0 else f'code {code}'}"


def serve(fd: int) -> None:
    """The child's main: makes the world, answers until it is told to end or its parent has gone."""
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    with Connection(fd) as pipe:
        try:
            if (path := pipe.recv()) is None:
                return
            sys.path[:] = path
            world = pipe.recv()()
            pipe.send((True, (world.observation_space, world.action_space, world.metadata)))
        except Exception as error:  # whatever a world raises belongs to its caller
            pipe.send((False, portable(error)))
            return
        try:
            while (message := pipe.recv()) is not None:
                pipe.send(_answer(world, *message))
        except (EOFError, OSError):
            pass  # the parent has gone
        finally:
            world.close()


def _answer(world: Env, name: str, values: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        if name == "reset":
            return True, world.reset(seed=values[0], options=values[1])
        if name == "cheat":
            gold = getattr(world.unwrapped, "cheat", None)
            if gold is None:
                raise UsageError("this world has no gold actions (a method cheat() -> str)")
            return True, gold()
        return True, world.step(*values)
    except Exception as error:  # see above
        return False, portable(error)


def portable(error: Exception) -> Exception:
    """The error itself where it survives the way, else an EnvError of its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # any class may refuse in any way
        return EnvError(f"{type(error).__name__}: {error}")
    return error


def _follow(parent: int) -> None:
    """End when the parent has gone, also in the middle of a step that never returns."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
