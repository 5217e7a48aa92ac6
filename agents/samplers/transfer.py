"""Ways for weights to reach a server: a file, or on GPUs vLLM's own engines for NCCL and CUDA IPC."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ...envs import AgentError, UsageError, extra
from .vllm_control import Control

BACKENDS = ("file", "nccl", "ipc")


class Transfer(Protocol):
    """Brings weights to one server."""

    def send(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """All of a checkpoint's tensors; the server then calls its weights ``version``."""
        ...


class Shelf:
    """A folder with the newest weights as one file, for any number of servers that see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def put(self, tensors: Mapping[str, Tensor], version: int) -> Path:
        """The file of these weights, whole or not at all; older ones are removed.

        Raises UsageError when it cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        path = self.folder / f"weights-{version}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("weights-*.safetensors"):
                old.unlink()
            aside = path.with_suffix(".new")
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, aside)
            os.replace(aside, path)
        except (OSError, SafetensorError) as error:  # the second: the disk is full
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot write weights for the servers to {path}: {why}") from error
        return path

    def clear(self) -> None:
        """Nothing is left."""
        for old in self.folder.glob("weights-*"):
            old.unlink(missing_ok=True)


class FileTransfer:
    """By a file on a disk that trainer and server share; the server was started by ``vllm_server.py``."""

    def __init__(self, control: Control, shelf: Shelf) -> None:
        self._control, self._shelf = control, shelf
        control.init_weight_transfer_engine({})

    def send(self, tensors: Mapping[str, Tensor], version: int) -> None:
        path = self._shelf.folder / f"weights-{version}.safetensors"
        self._control.start_weight_update()
        self._control.update_weights({"path": str(path)})
        self._control.finish_weight_update(str(version))


class EngineTransfer:
    """By vLLM's trainer engine for ``backend``, "nccl" or "ipc", in a group of its own for each server.

    Tensors go from ``device``, this process's GPU; for "ipc" the server is on the same one. Raises MissingExtra
    without vLLM in this process, UsageError without CUDA; here and in ``send`` AgentError when the engine fails.
    """

    def __init__(self, control: Control, backend: str, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        if device.type != "cuda":
            raise UsageError(f"weights go by {backend} from a GPU, not from {device}: take the transfer file")
        base = extra("vllm.distributed.weight_transfer.base", "vllm")
        factory = extra("vllm.distributed.weight_transfer.factory", "vllm")
        self._control, self._held = control, dict(tensors)
        held = self._held

        class Source(base.WeightSource):  # type: ignore[misc, name-defined]
            """The tensors of the present round, on the GPU one at a time."""

            def metadata(self) -> list[Any]:
                return [base.ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in held.items()]

            def __iter__(self) -> Iterator[tuple[str, Tensor]]:
                return ((name, tensor.to(device)) for name, tensor in held.items())

        self._where = f"{control.url}: vLLM's trainer engine for {backend}"
        with _failing(self._where):
            self._engine = factory.WeightTransferTrainerFactory.trainer_init(
                _meeting(backend, control), client=control, source=Source()
            )

    def send(self, tensors: Mapping[str, Tensor], version: int) -> None:
        self._held.clear()
        self._held.update(tensors)
        self._control.label = str(version)  # the engine finishes without a name
        with _failing(self._where):
            self._engine.send_weights()


@contextmanager
def _failing(where: str) -> Iterator[None]:
    """What NCCL, CUDA and the network raise becomes an AgentError: the server is out, and the run goes on."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        raise AgentError(f"{where} has failed: {type(error).__name__}: {error}") from error


def _meeting(backend: str, control: Control) -> Any:
    """Where trainer and server find each other."""
    if backend == "ipc":
        return extra("vllm.distributed.weight_transfer.ipc_engine", "vllm").IPCTrainerInitInfo(rank=0)
    network = extra("vllm.utils.network_utils", "vllm")
    nccl = extra("vllm.distributed.weight_transfer.nccl_engine", "vllm")
    return nccl.NCCLTrainerInitInfo(network.get_ip(), network.get_open_port(), 1 + control.workers(), rank=0)
