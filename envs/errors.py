"""One hierarchy of errors; every message says what was wrong, where, and what to do.

TurngymError
├── UsageError        what the user asked for cannot be done: an unknown id, option, file or browser
│   ├── MissingExtra  a part of the package that is not installed, by the name of its extra
│   └── CheckpointError  a checkpoint or model folder that is absent, torn or of another run
├── ActionError       a malformed or impossible action; the world answers it with an error text
└── Failure           infrastructure failed: never a reward, always an outcome (rule 3)
    ├── EnvError      a world: its server, browser or database
    ├── AgentError    an agent: its sampler, prompt or tokenizer
    ├── JudgeError    a scorer
    └── Deadline      something took longer than it was allowed
"""

from importlib import import_module
from types import ModuleType
from typing import Literal


class TurngymError(Exception):
    """Root of every error that the package raises on purpose."""


class UsageError(TurngymError):
    """What the user asked for cannot be done."""


class MissingExtra(UsageError):
    """A part of the package that is not installed."""


class CheckpointError(UsageError):
    """A checkpoint or model folder that is absent, torn or of another run."""


class ActionError(TurngymError):
    """A malformed or impossible action: costs a turn and is answered with this text."""


class Failure(TurngymError):
    """Infrastructure failed; the trajectory leaves loss and statistics."""

    outcome: Literal["env_error", "agent_error", "judge_error", "timeout"] = "env_error"


class EnvError(Failure):
    """A world failed: its server, browser or database."""


class AgentError(Failure):
    """An agent failed: its sampler, prompt or tokenizer."""

    outcome = "agent_error"


class JudgeError(Failure):
    """A scorer failed."""

    outcome = "judge_error"


class Deadline(Failure):
    """Something took longer than it was allowed."""

    outcome = "timeout"


def extra(module: str, name: str) -> ModuleType:
    """Import ``module`` of the extra ``name``; raises MissingExtra with the command that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{module} is not installed; it comes with: pip install 'turngym[{name}]'") from error
