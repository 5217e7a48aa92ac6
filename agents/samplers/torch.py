"""The in-process sampler: any Hugging Face causal LM whose layers are attention, with continuous batching."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...envs import AgentError
from ..asked import check
from ..core import ContextFull, Request, Sample
from .decoder import Decoder, Job

_Answer = asyncio.Future[Sample]


class TorchSampler:
    """Samples from its own copy of a model; ``publish`` gives it new weights, also while requests run.

    ``together`` decides what shares a pass. True: requests begin once every episode inside ``playing()`` has one, and
    all end before the next begin; no time decides what shares a pass, so the same run always computes the same bits
    (rule 10). False: a request begins with the next pass, and nobody waits for anybody.

    Decoding runs in one thread of its own; the event loop stays free. A request that is cancelled leaves at once.
    """

    def __init__(self, model: Any, *, rows: int = 64, together: bool = True) -> None:
        self.model, self.together = model.eval(), together
        self.decoder = Decoder(self.model, rows)
        self._waiting: list[tuple[Request, _Answer]] = []
        self._running: list[tuple[Job, _Answer]] = []
        self._fresh: tuple[dict[str, Tensor], int] | None = None
        self._playing = 0
        self._called = False  # something has happened that the decoding thread must hear of
        self._driver: asyncio.Task[None] | None = None
        self._thread: Executor = ThreadPoolExecutor(1, "sampler")

    @property
    def version(self) -> int:
        """Of the weights that the next token is sampled from."""
        return self._fresh[1] if self._fresh else self.decoder.version

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Counts one episode among those that wait for each other."""
        self._playing += 1
        try:
            yield
        finally:
            self._playing -= 1
            self._wake()

    async def __call__(self, request: Request) -> Sample:
        """Raises UsageError for what this sampler cannot do, ContextFull for a context beyond the model's."""
        check(request, "torch")
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        self._wake()
        try:
            return await answer
        except asyncio.CancelledError:
            self._called = True
            raise

    def publish(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Copies the weights in, before the next pass. Raises KeyError for a name that the model lacks."""
        own, fresh = self.model.state_dict(), dict(tensors)
        if unknown := sorted(set(fresh) - set(own)):
            raise KeyError(f"the sampler's model has no weights {', '.join(unknown)}")
        if self._driver is None:
            self._fresh = None
            self._load(fresh, version)
        else:
            self._fresh, self._called = ({name: tensor.clone() for name, tensor in fresh.items()}, version), True

    def close(self) -> None:
        """Ends the thread; whoever still waits gets an AgentError. May be called twice."""
        self._thread.shutdown()
        self._fail(AgentError("the sampler is closed"))

    def decode(self, requests: Sequence[Request]) -> list[Sample]:
        """A Sample for each request, at once; for callers outside an event loop."""
        jobs = {i: self.decoder.put(requests[i]) for i in _order(requests)}
        done: dict[int, Sample] = {}
        while self.decoder.busy:
            done |= {id(job): sample for job, sample in self.decoder.step()}
        return [done[id(jobs[i])] for i in range(len(requests))]

    def _wake(self) -> None:
        """Start the driver unless it runs or must wait."""
        self._called = True
        if self._driver is None and self._ready():
            self._driver = asyncio.get_running_loop().create_task(self._drive())

    def _ready(self) -> bool:
        self._waiting = [(r, answer) for r, answer in self._waiting if not answer.done()]  # the rest was cancelled
        return bool(self._waiting) and (not self.together or len(self._waiting) >= self._playing)

    async def _drive(self) -> None:
        """Decode while there is something to decode."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._called = False
                self._change()
                if not self.decoder.busy:
                    break
                self._settle(await loop.run_in_executor(self._thread, self._steps))
        except Exception as error:  # out of memory, a broken model: everyone who waits hears of it
            self._fail(error)
        finally:
            self._driver = None
        if self._ready():
            self._wake()

    def _change(self) -> None:
        """Between two passes: new weights, requests that begin, requests that nobody wants any more."""
        if self._fresh:
            fresh, self._fresh = self._fresh, None
            self._load(*fresh)
        for job, answer in self._running:
            if answer.done():
                self.decoder.drop(job)
        self._running = [(job, answer) for job, answer in self._running if not answer.done()]
        if self._ready() and not (self.together and self._running):
            starting, self._waiting = self._waiting, []
            for i in _order([request for request, _ in starting]):
                request, answer = starting[i]
                try:
                    self._running.append((self.decoder.put(request), answer))
                except ContextFull as error:
                    answer.set_exception(error)

    def _steps(self) -> list[tuple[Job, Sample]]:
        """In the thread: passes until a request is done or something has happened; all of them if together."""
        done: list[tuple[Job, Sample]] = []
        while self.decoder.busy and not self._called and (self.together or not done):
            done += self.decoder.step()
        return done

    def _settle(self, done: Sequence[tuple[Job, Sample]]) -> None:
        samples = {id(job): sample for job, sample in done}
        for job, answer in self._running:
            if id(job) in samples and not answer.done():
                answer.set_result(samples[id(job)])
        self._running = [(job, answer) for job, answer in self._running if id(job) not in samples]

    def _load(self, tensors: dict[str, Tensor], version: int) -> None:
        own = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in tensors.items():
                own[name].copy_(tensor)
        self.decoder.renew(version)

    def _fail(self, error: Exception) -> None:
        for _, answer in [*self._running, *self._waiting]:
            if not answer.done() and not answer.get_loop().is_closed():
                answer.set_exception(error)
        self._running, self._waiting = [], []
        self.decoder.forget()


def _order(requests: Sequence[Request]) -> list[int]:
    """In which they begin, whatever the order in which they came."""
    return sorted(range(len(requests)), key=lambda i: (requests[i].session, requests[i].seed, requests[i].ids))
