"""A sampler over vLLM's engine in this process: token ids in and out, each with its log-probability and its version.

For programs in Python; ``--sampler vllm`` is the sampler over servers.
"""

import asyncio
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import Tensor

from ...envs import AgentError
from ..core import Request, Sample
from .vllm_engine import WHERE, Engine
from .vllm_weights import Probe, prove
from .vllm_wire import sample


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request and who waits for it; cancelled once nobody does."""

    request: Request
    answer: Future[Sample]


@dataclass(frozen=True, slots=True)
class _Renew:
    """New weights and who waits until they are there."""

    tensors: dict[str, Tensor]
    version: int
    answer: Future[None]


class VllmLocal:
    """Samples from ``model``, the folder of a Hugging Face causal LM, loaded by vLLM into this process.

    Args:
        dtype: "float32" or "bfloat16".
        longest: tokens of the longest context; 0: the model's own.
        cache: GiB of keys and values.
        initial: the version of the folder's weights.
        probe: what is compared with the trainer after every ``publish``; without one nothing is.

    The engine steps in one thread of its own: the event loop stays free, and ``publish`` changes weights between two
    steps, also while requests run; those read their context again, so each token's log-probability is the one that its
    version gives. A request that is cancelled leaves before the next step. vLLM wants torch's process group for itself:
    there is one such sampler a process at a time, and none beside a learner of several processes. A step or an update
    that fails ends the sampler: everyone who waits gets an AgentError. On a CPU every step of vLLM draws from torch's
    global generator, though no request depends on it.

    Raises MissingExtra without vLLM, UsageError for a model that it cannot load or be kept in step with.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        dtype: str = "float32",
        longest: int = 0,
        cache: float = 1.0,
        initial: int = 0,
        probe: Probe | None = None,
    ) -> None:
        self.version, self.probe = initial, probe
        self._jobs = SimpleQueue[_Ask | _Renew | None]()
        self._lock = threading.Lock()
        self._over = ""  # why nothing is taken any more
        ready: Future[Engine] = Future()
        make = lambda: Engine(os.fspath(model), dtype, longest, cache, initial)  # noqa: E731
        threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, args=(make, ready, threads), name="vllm", daemon=True)
        self._thread.start()
        self._engine = ready.result()

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Nothing: episodes do not wait for each other here."""
        yield

    async def __call__(self, request: Request) -> Sample:
        """Raises UsageError for what this sampler cannot do, ContextFull for a context beyond the model's, AgentError
        when the engine fails or is closed."""
        return await asyncio.wrap_future(self._ask(request))

    def publish(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """All of a checkpoint's tensors; when it returns the next token is sampled from them.

        Raises UsageError, with nothing changed, for tensors that are not the model's; Disagreement when the probe
        finds another model; AgentError when the engine fails.
        """
        fresh = dict(tensors)
        self._engine.accepts(fresh)
        done: Future[None] = Future()
        self._put(_Renew(fresh, version, done))
        done.result()
        self.version = version
        if self.probe:
            wanted = [self.probe.trained(request) for request in self.probe.requests]
            prove(self.probe, wanted, lambda request: self._ask(request).result(), version, WHERE)

    def close(self) -> None:
        """Ends the engine and its thread; whoever still waits gets an AgentError. May be called twice."""
        self._jobs.put(None)
        self._thread.join()

    def _ask(self, request: Request) -> Future[Sample]:
        self._engine.may(request)
        answer: Future[Sample] = Future()
        self._put(_Ask(request, answer))
        return answer

    def _put(self, job: _Ask | _Renew) -> None:
        with self._lock:  # so that no job comes after the last look into the queue
            if self._over:
                raise AgentError(self._over)
            self._jobs.put(job)

    def _run(self, make: Callable[[], Engine], ready: Future[Engine], threads: int) -> None:
        """The thread: the engine begins, steps and ends here."""
        torch.set_num_threads(threads)  # each thread has a number of its own
        try:
            own = make()
        except BaseException as error:
            self._over = f"{WHERE} did not start"
            ready.set_exception(error)
            return
        ready.set_result(own)
        waiting: dict[str, _Ask] = {}
        why = f"{WHERE} is closed"
        try:
            self._play(own, waiting)
        except Exception as error:  # out of memory, a broken model: everyone who waits hears of it
            why = f"{WHERE} has failed and plays no more: {type(error).__name__}: {error}"
            logging.getLogger("turngym").warning("%s", why)
        finally:
            self._finish(why, waiting)
            own.close()

    def _play(self, own: Engine, waiting: dict[str, _Ask]) -> None:
        """Until ``close``, or until something fails."""
        names = map(str, itertools.count())
        while True:
            for job in self._new(wait=not waiting):
                if job is None:
                    return
                if isinstance(job, _Renew):
                    _renew(own, job)
                    continue
                name = next(names)
                waiting[name] = job
                try:
                    own.put(name, job.request)
                except ValueError as error:  # vLLM's refusal of this one request
                    _refuse(waiting.pop(name), AgentError(f"{WHERE} refuses a request: {error}"))
            for name in [name for name, asked in waiting.items() if asked.answer.cancelled()]:
                own.drop(name)
                del waiting[name]
            if waiting:
                for name, said in own.step():
                    _answer(waiting.pop(name), said)

    def _new(self, wait: bool) -> Iterator[_Ask | _Renew | None]:
        """What has come since the last look; at least one if ``wait``."""
        try:
            while True:
                yield self._jobs.get(block=wait)
                wait = False
        except Empty:
            return

    def _finish(self, why: str, waiting: Mapping[str, _Ask]) -> None:
        with self._lock:
            self._over = why
        left = [job for job in self._new(wait=False) if job is not None]
        for job in [*waiting.values(), *left]:
            _refuse(job, AgentError(why))


def _renew(own: Engine, job: _Renew) -> None:
    """Raises what broke, once whoever waits has heard of it: the weights may be half written."""
    try:
        own.renew(job.tensors, job.version)
    except Exception as error:
        job.answer.set_exception(AgentError(f"{WHERE} did not take version {job.version}: {error}"))
        raise
    job.answer.set_result(None)


def _answer(asked: _Ask, said: Any) -> None:
    """Unless nobody waits any more."""
    if not asked.answer.set_running_or_notify_cancel():
        return
    tokens = tuple(int(token) for token in said.token_ids)
    spans = [(span.version, span.start, span.end) for span in said.weight_versions or ()]
    logps = tuple(float(entry[token].logprob) for token, entry in zip(tokens, said.logprobs or (), strict=False))
    try:
        asked.answer.set_result(sample(tokens, logps, spans, str(said.finish_reason), asked.request, None, WHERE))
    except AgentError as error:
        asked.answer.set_exception(error)


def _refuse(job: _Ask | _Renew, error: AgentError) -> None:
    if job.answer.set_running_or_notify_cancel():
        job.answer.set_exception(error)
