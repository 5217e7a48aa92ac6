"""The vLLM servers of a run: begun or given, kept in step with the learner, watched, ended on every exit path."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..agents.samplers.vllm_weights import Probe, Tell, VllmWeights, next_token, probes, tied
from ..agents.samplers.vllm_wire import WHOLE
from ..envs import Failure, TurngymError
from .models import folder
from .servers import SERVED, Process, wait
from .settings import Run

LOOK = 2.0  # seconds between two looks at the servers
AGAIN = 3  # times that a server is started again
# Differences of log-probabilities in nats that precision alone explains: the largest, and the mean. Two computations in
# bfloat16 of the same rounded weights were 0.005 apart in the mean and 0.2 at most.
ALLOWED = {"float32": (1e-3, 1e-3), "bfloat16": (0.5, 0.03)}


class Engines:
    """What plays a run by vLLM: ``publish`` gives it weights, ``tell`` hears which servers have which.

    Given ``run.servers``, these; else one that is started here, its log in the run's folder. Before anything is played
    with new weights, and on every server that comes back, log-probabilities are compared with those that ``model``,
    which is not the learner's own, gives with what was published. A context manager. Raises UsageError for a model that
    vLLM cannot be kept in step with, MissingExtra without vLLM, Failure when a server does not start.
    """

    def __init__(self, run: Run, model: Any) -> None:
        tied(model.config)
        self._model, self._dtype, out = model, getattr(torch, run.dtype), Path(run.out)
        self.seconds = run.server_seconds
        self.processes = [] if run.servers else [_process(run, out, model.config)]
        self.urls = run.servers or tuple(process.url for process in self.processes)
        probe = Probe(probes(int(model.config.vocab_size)), next_token(model), *ALLOWED[run.dtype])
        self._weights = VllmWeights(
            self.urls, folder=out / "weights", model=SERVED, backend=run.transfer, probe=probe, device=run.device,
            timeout=run.server_seconds,
        )  # fmt: skip
        self.alarm: Callable[[TurngymError], None] = lambda error: None  # hears at once what ``check`` raises
        self._error: TurngymError | None = None
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, name="vllm-watch", daemon=True)
        self._restarts = [0] * len(self.processes)

    def __enter__(self) -> Self:
        try:
            for process in self.processes:
                process.start()
            wait(self.processes, self.seconds)
        except BaseException:
            self.close()
            raise
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, tensors: Mapping[str, Tensor], version: int, tell: Tell) -> None:
        """Give the servers new weights, and ``tell`` who has them, now and whenever that changes.

        Raises Disagreement, and like ``check``.
        """
        self.check()
        self._weights.tell = tell
        rounded = {name: tensor.to(self._dtype) for name, tensor in tensors.items()}  # as the servers round them
        self._model.load_state_dict(rounded, assign=True)  # in float32 the very tensors: no other copy is held
        self._weights.publish(tensors.items(), version)

    def check(self) -> None:
        """Raises what ended the watch, such as a Disagreement: nothing may be learned from what these servers play."""
        if self._error:
            raise self._error

    def close(self) -> None:
        """End what was started here; may be called twice."""
        self._ended.set()
        for process in self.processes:
            process.stop()
        if self._watch.is_alive():
            self._watch.join()
        for process in self.processes:  # the watch may have started one in between
            process.stop()
        self._weights.close()

    def _look(self) -> None:
        """In a thread of its own: start what has died, heal what lacks the present weights."""
        try:
            while not self._ended.wait(LOOK):
                self._revive()
                self._weights.heal()
        except TurngymError as error:
            self._failed(error)
        except Exception as error:  # a thread's traceback stops nothing: the run must hear of it
            self._failed(Failure(f"the watch of the vLLM servers has failed: {type(error).__name__}: {error}"))

    def _failed(self, error: TurngymError) -> None:
        if not self._ended.is_set():
            self._error = error
            logging.getLogger("turngym").warning("the servers are no longer watched: %s", error)
            self.alarm(error)

    def _revive(self) -> None:
        for number, process in enumerate(self.processes):
            torn = self._weights.torn[number]
            if self._ended.is_set() or (process.alive and not torn) or self._restarts[number] >= AGAIN:
                continue
            self._restarts[number] += 1
            why = "its weights are half written" if torn else "it has ended"
            logging.getLogger("turngym").warning(
                "server %s is started again: %s; its log is %s", process.url, why, process.log
            )
            process.stop()
            self._weights.torn[number] = False
            process.start()


def _process(run: Run, out: Path, config: Any) -> Process:
    """On a CPU prompts are read whole, in steps of at most WHOLE tokens: vLLM refuses longer contexts."""
    longest = 0 if run.device.startswith("cuda") else min(WHOLE, getattr(config, "max_position_embeddings", WHOLE))
    return Process(
        folder(run.model), out / "server-0.log", dtype=run.dtype, backend=run.transfer, device=run.device,
        longest=longest,
    )  # fmt: skip
