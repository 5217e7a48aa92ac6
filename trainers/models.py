"""Model folders: loading and saving any Hugging Face causal LM."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ..agents.tiny import BASE
from ..envs import CheckpointError, UsageError
from .files import ASIDE, write_bytes
from .hosting import is_url


def folder(model: str) -> str:
    """The embedded policy's folder for "", else ``model`` itself."""
    return model or str(BASE)


def load(model: str, device: str = "cpu", dtype: str = "float32") -> tuple[Any, Any]:
    """Model and tokenizer of a folder or hub id; raises CheckpointError with one line when it is not one.

    Raises UsageError for the url of an endpoint, whose weights are elsewhere.
    """
    from transformers import AutoModelForCausalLM

    where, words = folder(model), tokenizer(model)
    with _reading(where):
        network: Any = AutoModelForCausalLM.from_pretrained(where, dtype=dtype)
    _writable(network)
    return network.to(device), words


def _writable(network: Any) -> None:
    """Sampling settings that transformers reads but refuses to write would make every save fail: leave them out."""
    from transformers import GenerationConfig

    try:
        network.generation_config.validate(strict=True)
    except ValueError:
        network.generation_config = GenerationConfig.from_model_config(network.config)


def tokenizer(model: str) -> Any:
    """The tokenizer alone; raises like ``load``."""
    from transformers import AutoTokenizer

    if is_url(model):
        raise UsageError(
            f"{model} is an endpoint, which can be measured (turngym eval --agent {model}) but neither trained nor"
            " loaded: name the folder or hub id of its model"
        )
    where = folder(model)
    with _reading(where):
        return AutoTokenizer.from_pretrained(where)


@contextmanager
def _reading(where: str) -> Iterator[None]:
    from huggingface_hub.errors import HFValidationError
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    except (OSError, ValueError, KeyError, HFValidationError, SafetensorError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{where} is not a model folder or hub id: {why}") from error


def save(to: Path, model: Any, tokenizer: Any, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write a model's folder as ``aside``: its weights, or those given by its own names, and its tokenizer."""

    def fill(folder: Path) -> None:
        tied = getattr(model, "all_tied_weights_keys", None) or {}
        own = None if weights is None else {name: t for name, t in weights.items() if name not in tied}
        model.save_pretrained(folder, state_dict=own)
        tokenizer.save_pretrained(folder)

    aside(to, fill)


def aside(to: Path, fill: Callable[[Path], None]) -> None:
    """Put the files that ``fill`` writes into the folder ``to``, each at once.

    Raises UsageError when the disk is full or the place cannot be written; old files then stay whole.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=to, prefix=ASIDE) as folder:
            fill(Path(folder))
            for file in sorted(Path(folder).iterdir()):
                write_bytes(to / file.name, file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot write the agent to {to}: {error}") from error
