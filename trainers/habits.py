"""How an agent was trained to be used: ``agent.json`` beside the weights."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..agents.memory import MEMORIES
from ..envs import CheckpointError, UsageError
from .files import write_text
from .models import folder

AGENT_FILE = "agent.json"


@dataclass(frozen=True, slots=True)
class Habits:
    """What a world and a sampler are told for this agent; the defaults suit a model that says nothing.

    ``memory`` names one of agents/memory.py; ``max_tokens`` an action; ``instructions``: whether the world explains
    its actions; ``prompt``: the form of answer that the world asks for, plain or thinking.
    """

    memory: str = "compressed"
    max_tokens: int = 256
    instructions: bool = True
    prompt: str = "plain"

    def __post_init__(self) -> None:
        if self.memory not in MEMORIES:
            raise UsageError(f"no memory {self.memory!r}; there are {', '.join(MEMORIES)}")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, not {self.max_tokens}")


def habits(model: str, *, memory: str = "", prompt: str = "") -> Habits:
    """Those of the folder or hub id ``model``, with what is asked for in their place.

    Raises CheckpointError for an ``agent.json`` that is not one, UsageError for an unknown memory.
    """
    file = Path(folder(model)) / AGENT_FILE
    found = Habits()
    if file.is_file():
        try:
            found = _read(json.loads(file.read_text()))
        except (ValueError, TypeError, UsageError) as error:
            raise CheckpointError(f"{file} does not hold an agent's habits: {error}") from error
    return replace(found, memory=memory or found.memory, prompt=prompt or found.prompt)


def write(to: Path, said: Habits) -> None:
    """Write ``agent.json`` into the folder ``to``."""
    write_text(to / AGENT_FILE, json.dumps(asdict(said), indent=2) + "\n")


def _read(said: Any) -> Habits:
    usual = asdict(Habits())
    if not isinstance(said, dict):
        raise TypeError(f"it holds {type(said).__name__}, not names with their values")
    for name, value in said.items():
        if type(value) is not type(usual.get(name)):
            raise TypeError(f"it may give {', '.join(usual)}, each as in {usual}, not {name} = {value!r}")
    return Habits(**said)
