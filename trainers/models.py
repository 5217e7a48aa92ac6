"""Model folders: loading and saving any Hugging Face causal LM."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError

from ..agents.tiny import BASE
from ..envs import CheckpointError, UsageError
from .files import ASIDE, write_bytes


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


def save(to: Path, model: Any, tokenizer: Any) -> None:
    """Write a model's folder, each file at once: weights and tokenizer.

    Raises UsageError when the disk is full or the place cannot be written; old files then stay whole.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=to, prefix=ASIDE) as aside:
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
            for file in sorted(Path(aside).iterdir()):
                write_bytes(to / file.name, file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot write the agent to {to}: {error}") from error
