"""Checkpoints: whole or absent, checked by their sha256, and loadable without running any code."""

import hashlib
import io
import logging
from collections import OrderedDict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ..envs import CheckpointError, UsageError
from .files import sweep, write_bytes

FOLDER = "checkpoints"
MAGIC = b"turngym checkpoint 3\n"
DIGEST = hashlib.sha256().digest_size
SCALARS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.Size)


def save(path: Path | str, **parts: Any) -> None:
    """Write ``parts`` to ``path`` at once: a reader sees the old checkpoint or the new one, whole.

    Parts are tensors and plain values in dicts, lists, tuples and sets. Raises UsageError for any other value,
    naming its place, and when the disk is full or the place cannot be written; the old checkpoint is then
    untouched and nothing else is left behind.
    """
    for name, part in parts.items():
        _plain(part, name)
    buffer = io.BytesIO()
    torch.save(parts, buffer)
    payload = buffer.getvalue()
    write_bytes(path, MAGIC + hashlib.sha256(payload).digest() + payload)


def load(path: Path | str) -> dict[str, Any]:
    """The parts that ``save`` was given, tensors on the CPU.

    Raises CheckpointError, in one line, if the file is absent, unreadable, torn, corrupt or no checkpoint.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    start = len(MAGIC) + DIGEST
    if not data.startswith(MAGIC[: len(data)]) or not data:
        raise CheckpointError(f"{path} is not a turngym checkpoint, or one of another version")
    payload = data[start:]
    if hashlib.sha256(payload).digest() != data[len(MAGIC) : start]:
        raise CheckpointError(f"checkpoint {path} is torn or corrupt: its checksum does not match; use another")
    try:
        parts = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError) as error:
        raise CheckpointError(f"checkpoint {path} was written by another version of torch") from error
    return dict(parts)


class Shelf:
    """The newest ``keep`` checkpoints of a run, one file a step, in the folder ``checkpoints``."""

    def __init__(self, out: Path | str, keep: int = 2) -> None:
        self.folder, self.keep = Path(out) / FOLDER, keep

    def save(self, step: int, /, **parts: Any) -> None:
        """As the function ``save``; then checkpoints older than the newest ``keep`` go."""
        save(self.folder / f"{step:06d}.pt", **parts)
        for old in self.files()[: -self.keep]:
            old.unlink(missing_ok=True)

    def newest(self) -> dict[str, Any]:
        """The newest checkpoint that is whole; files that a crash left aside are removed, torn ones are passed over.

        Raises CheckpointError when there is none.
        """
        sweep(self.folder)
        files = self.files()
        for file in reversed(files):
            try:
                return load(file)
            except CheckpointError as error:
                if file == files[0]:
                    raise
                logging.getLogger("turngym").warning("%s; taking the one before", error)
        raise CheckpointError(f"no checkpoint in {self.folder}")

    def files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("[0-9]*.pt"))


def _plain(value: Any, where: str) -> None:
    """Raise UsageError unless ``value`` can be loaded without running code."""
    if isinstance(value, torch.Tensor) or type(value) in SCALARS:
        return
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _plain(key, f"a key of {where}")
            _plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for index, item in enumerate(value):
            _plain(item, f"{where}[{index}]")
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise UsageError(f"cannot checkpoint {where}: {kind} is neither a tensor nor a plain value")
