"""Model folders: loading any Hugging Face causal LM, and what an agent's folder holds beside it."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError

from ..agents.memory import MEMORIES
from ..agents.tiny import BASE
from ..envs import CheckpointError, UsageError
from .files import write_bytes, write_text

AGENT_FILE = "agent.json"  # how the agent was trained to be used: memory, instructions, tokens an action


def folder(model: str) -> str:
    """The embedded policy's folder for "", else ``model`` itself."""
    return model or str(BASE)


def load(model: str, device: str = "cpu") -> tuple[Any, Any]:
    """Model in fp32 and tokenizer of a folder or hub id; raises CheckpointError with one line when it is not one."""
    from huggingface_hub.errors import HFValidationError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    where = folder(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        network: Any = AutoModelForCausalLM.from_pretrained(where, dtype="float32")
    except (OSError, ValueError, KeyError, HFValidationError, SafetensorError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{where} is not a model folder or hub id: {why}") from error
    return network.to(device), tokenizer


def habits(model: str) -> dict[str, Any]:
    """What ``agent.json`` says; {} for a model without it."""
    file = Path(folder(model)) / AGENT_FILE
    if not file.is_file():
        return {}
    try:
        said: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    limit = said.get("max_tokens", 1) if isinstance(said, dict) else None
    if type(limit) is not int or limit < 1 or said.get("memory", "full") not in MEMORIES:
        raise CheckpointError(f"{file} must hold max_tokens of at least 1 and a memory of {', '.join(MEMORIES)}")
    return said


def save(to: Path, model: Any, tokenizer: Any, agent: dict[str, Any]) -> None:
    """Write an agent's folder, each file at once: weights, tokenizer and ``agent.json``.

    Raises UsageError when the disk is full or the place cannot be written; old files then stay whole.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=to, prefix=".writing-") as aside:
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
            for file in sorted(Path(aside).iterdir()):
                write_bytes(to / file.name, file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot write the agent to {to}: {error}") from error
    write_text(to / AGENT_FILE, json.dumps(agent, indent=2) + "\n")
