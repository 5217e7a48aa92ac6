"""vLLM's server, with one more way to give it weights: from a file, which every machine has.

A program for the Python that has vLLM, which needs not have turngym:

    PYTHONSAFEPATH=1 python agents/samplers/vllm_server.py --model FOLDER --weight-transfer-config '{"backend":"file"}'

Options are those of ``vllm serve``. With TURNGYM_TIED=1 it ends when its standard input does, which whoever started it
holds open: a trainer that is killed leaves no server behind. The calls are those of vLLM's own engines
(vllm.distributed.weight_transfer, read in version 0.32): a trainer that sends files sends by NCCL or CUDA IPC with the
same words.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


def register() -> None:
    """Make the backend ``file`` known to the vLLM of this process."""
    from vllm.distributed.weight_transfer import base, factory
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    @dataclass
    class Nothing(base.WeightTransferInitInfo):  # type: ignore[misc]
        """A file wants no meeting beforehand."""

    @dataclass
    class File(base.WeightTransferUpdateInfo):  # type: ignore[misc]
        """A safetensors file that this machine can read, with a checkpoint's names."""

        path: str

    class FileEngine(base.WeightTransferEngine):  # type: ignore[misc]
        """Loads a checkpoint's file into the running model, layer by layer."""

        init_info_cls, update_info_cls = Nothing, File

        def init_transfer_engine(self, init_info: Nothing) -> None:
            pass  # there is nobody to meet

        def start_weight_update(self) -> None:
            initialize_layerwise_reload(self.model)

        def update_weights(self, update_info: dict[str, Any]) -> None:
            self.receive_weights(self.parse_update_info(update_info))  # the base waits for an accelerator: no CPU is

        def receive_weights(self, update_info: File) -> None:
            self.model.load_weights(_read(update_info.path))

        def finish_weight_update(self) -> None:
            finalize_layerwise_reload(self.model, self.model_config)

        def shutdown(self) -> None:
            pass  # nothing is held

    factory.WeightTransferEngineFactory.register_engine("file", FileEngine)


def _read(path: str) -> Iterator[tuple[str, Any]]:
    """One tensor at a time."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        for name in file.keys():
            yield name, file.get_tensor(name)


def _tied() -> None:
    """End this process group once nobody holds the other end of standard input."""
    while sys.stdin.buffer.read(1):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(10)
    os.killpg(0, signal.SIGKILL)


if __name__ in ("__main__", "__mp_main__"):  # the second: the engine's own process, which begins with this file too
    register()

if __name__ == "__main__":
    from vllm.entrypoints.launchers.api_server.entry import main

    if os.environ.get("TURNGYM_TIED") == "1":
        threading.Thread(target=_tied, daemon=True).start()
    main()
