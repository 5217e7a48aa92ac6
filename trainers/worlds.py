"""Which worlds a run plays in, and what they are made with."""

import importlib
import inspect
import sys
from typing import Any

import gymnasium as gym

from ..envs import Env, UsageError
from ..wrappers import Recorded
from .habits import Habits

BROWSERS = ("browser", "remote")  # engines that are slow and few
Options = tuple[tuple[str, Any], ...]  # keyword arguments of gymnasium.make, picklable and hashable


def spec(env: str) -> gym.envs.registration.EnvSpec:
    """The registered world ``id`` or ``module:id``; raises UsageError for an unknown one."""
    module, _, name = env.rpartition(":")
    try:
        if module:
            if "" not in sys.path:
                sys.path.insert(0, "")  # a user's own module lies where the command is run
            importlib.import_module(module)
        return gym.spec(name)
    except (ModuleNotFoundError, gym.error.Error) as error:
        known = ", ".join(sorted(k for k in gym.registry if k.startswith("turngym/")))
        raise UsageError(
            f"no environment {env}: {str(error).rstrip('.')}. Known here: {known}; others as module:id"
        ) from error


def options(env: str, **wanted: Any) -> Options:
    """The wanted keyword arguments, those of None left out; raises UsageError for one that the world lacks."""
    entry = spec(env).entry_point
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        entry = getattr(importlib.import_module(module), name)
    assert entry is not None, f"{env} is registered without an entry point"
    accepted = inspect.signature(entry).parameters
    given = {k: v for k, v in wanted.items() if v is not None}
    if lacking := sorted(set(given) - set(accepted)):
        raise UsageError(
            f"environment {env} has no option {', '.join(lacking)}; it has {', '.join(accepted) or 'none'}"
        )
    return tuple(sorted(given.items()))


def accepts(env: str, name: str) -> bool:
    """Whether the world's constructor has this keyword."""
    try:
        options(env, **{name: 0})
    except UsageError:
        return False
    return True


def manners(env: str, used: Habits) -> dict[str, Any]:
    """How the world speaks to an agent of these habits, in the keywords that the world has.

    Raises UsageError when the agent thinks first and the world cannot ask for it.
    """
    found = {"instructions": used.instructions} if accepts(env, "instructions") else {}
    return found | ({"prompt": used.prompt} if used.prompt != Habits().prompt or accepts(env, "prompt") else {})


def make(env: str, made_with: Options) -> Env:
    """The world itself."""
    spec(env)
    world: Env = gym.make(env.rpartition(":")[2], disable_env_checker=True, **dict(made_with))
    return world


def recorded(env: str, made_with: Options, record: bool) -> Env:
    """The world, with screenshots in its info if ``record``; a plain function, so that other processes can call it."""
    world = make(env, made_with)
    return Recorded(world) if record else world


def templates(world: Env) -> tuple[str, ...]:
    """The names that the world's reset takes as ``options={"template": …}``; ("",) where it has none."""
    return tuple(getattr(world.unwrapped, "templates", ("",)))
