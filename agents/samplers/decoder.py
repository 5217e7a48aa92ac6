"""Continuous batching: requests join and leave between passes, each in a slot whose prefix may be there already."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core import ContextFull, Finish, Request, Sample
from .draw import draw, numbers
from .slots import SlotCache, check, masks

ALIKE = 0.5  # a shorter row is cheaper read in a pass of its own
_Ids = np.ndarray[Any, np.dtype[np.int64]]
CHUNK = {"cpu": 1024}  # padded tokens of one pass over prompts: short ones waste little, a GPU wants long ones


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way."""

    request: Request
    numbers: np.ndarray[Any, np.dtype[np.float64]]  # one a token
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)

    def sample(self, finish: Finish) -> Sample:
        return Sample(tuple(self.tokens), tuple(self.logps), tuple(self.versions), finish)


class Decoder:
    """Decodes in ``rows`` slots of one static cache. Not thread-safe: whoever owns it calls it.

    A slot keeps the tokens of its last context. The next request of the same session finds its prefix there; one that
    shares half of its prompt with another slot, as the members of a group do, copies that slot's keys and values.
    New weights (``renew``) empty all slots: what is running reads its context again, so that every token's
    log-probability is the one that its version gives.
    """

    def __init__(self, model: Any, rows: int) -> None:
        check(model.config)
        self.model, self.rows, self.version = model, rows, 0
        self.limit = int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)
        self._cache = SlotCache(rows)
        self.forget()
        self.read = self.reused = 0  # prompt tokens that passed through the model, and those that did not have to

    def forget(self) -> None:
        """Empty all slots and drop all requests."""
        self._held = np.zeros((self.rows, 64), dtype=np.int64)  # [S, L] token ids
        self._cached = np.zeros(self.rows, dtype=np.int64)  # [S] tokens that have keys and values
        self._size = np.zeros(self.rows, dtype=np.int64)  # [S] tokens of the context
        self._used = np.zeros(self.rows, dtype=np.int64)  # [S] when last used
        self._clock = 0
        self._slot: dict[str, int] = {}  # of a session
        self._jobs: dict[int, Job] = {}  # by slot
        self._queue: deque[Job] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._jobs or self._queue)

    def renew(self, version: int) -> None:
        """The model's weights have changed."""
        self.version = version
        self._cached[:] = 0
        if not self.busy:
            self.forget()  # whatever was played before, a version starts alike: a resumed run equals a whole one

    def put(self, request: Request) -> Job:
        """Queue a request. Raises ContextFull for a context that the model cannot hold."""
        if len(request.ids) + request.max_tokens > self.limit:
            raise ContextFull(
                f"a context of {len(request.ids)} tokens and {request.max_tokens} to come is beyond the model's"
                f" {self.limit}: use a memory that compresses, or fewer turns"
            )
        job = Job(request, numbers(request, request.max_tokens))
        self._queue.append(job)
        return job

    def drop(self, job: Job) -> None:
        """Nobody waits for it any more."""
        if job in self._queue:
            self._queue.remove(job)
        self._jobs = {slot: j for slot, j in self._jobs.items() if j is not job}

    @torch.inference_mode()
    def step(self) -> list[tuple[Job, Sample]]:
        """One token for every running request; those that are done."""
        self._clock += 1
        self._admit()
        rows = sorted(self._jobs)
        if waiting := [s for s in rows if self._cached[s] < self._size[s] - 1]:
            self._prefill(waiting)  # after a change of weights
        if not rows:
            return []
        logits = self._pass(rows, 1, 0)
        jobs = [self._jobs[s] for s in rows]
        heat = torch.tensor([[j.request.temperature] for j in jobs], device=logits.device)
        uniform = torch.tensor([j.numbers[len(j.tokens)] for j in jobs], device=logits.device)
        chosen, logps = draw(logits, heat, uniform)
        done = []
        for slot, job, token, logp in zip(rows, jobs, chosen.tolist(), logps.tolist(), strict=True):
            job.tokens.append(token)
            job.logps.append(logp)
            job.versions.append(self.version)
            self._append(slot, token)
            stopped = token in job.request.stop
            if stopped or len(job.tokens) == job.request.max_tokens:
                del self._jobs[slot]
                done.append((job, job.sample("stop" if stopped else "length")))
        return done

    def _admit(self) -> None:
        """Put queued requests into free slots and read their prompts, all but the last token."""
        fresh: list[int] = []
        later: dict[tuple[int, int], list[int]] = {}  # (source, tokens): slots to copy to once the source is read
        while self._queue and len(self._jobs) < self.rows:
            job = self._queue.popleft()
            context = np.array(job.request.ids, dtype=np.int64)
            own = self._place(job.request.session)
            shared = self._shared(context[:-1], fresh, [slot for targets in later.values() for slot in targets])
            best, kept = int(shared.argmax()), int(shared[own])
            copied = 2 * (int(shared[best]) - kept) >= len(context)
            kept = int(shared[best]) if copied else kept
            self._jobs[own] = job
            self._write(own, context, kept)
            self.reused += kept
            if copied and best in fresh:
                later.setdefault((best, kept), []).append(own)
                continue
            if copied:  # at once: another newcomer may take that slot
                self._cache.copy(best, [own], kept)
            fresh.append(own)
        self._prefill(fresh)
        for (source, count), targets in later.items():
            self._cache.copy(source, targets, count)
            self._prefill(targets)

    def _place(self, session: str) -> int:
        """The session's slot if it is free, else the free one that was used longest ago."""
        slot = self._slot.get(session, -1)
        if slot < 0 or slot in self._jobs:
            slot = min((s for s in range(self.rows) if s not in self._jobs), key=lambda s: (self._used[s], s))
            self._slot = {name: s for name, s in self._slot.items() if s != slot}
            if session:
                self._slot[session] = slot
        self._used[slot] = self._clock
        return slot

    def _shared(self, context: _Ids, fresh: Sequence[int], later: Sequence[int]) -> Any:
        """How many of the first tokens each slot has, or will have once ``fresh`` ones are read, [S]."""
        width = min(len(context), self._held.shape[1])
        there = self._cached.copy()
        there[later] = 0
        there[fresh] = self._size[fresh] - 1
        if not width:
            return there * 0
        same = self._held[:, :width] == context[:width]
        return np.minimum(np.where(same.all(1), width, same.argmin(1)), there)

    def _write(self, slot: int, context: _Ids, kept: int) -> None:
        """The slot's context, of which ``kept`` tokens have keys and values."""
        self._widen(len(context))
        self._held[slot, : len(context)] = context
        self._size[slot], self._cached[slot] = len(context), kept

    def _append(self, slot: int, token: int) -> None:
        self._widen(int(self._size[slot]) + 1)
        self._held[slot, self._size[slot]] = token
        self._size[slot] += 1

    def _widen(self, length: int) -> None:
        if length > self._held.shape[1]:
            self._held = np.pad(self._held, ((0, 0), (0, max(length, 2 * self._held.shape[1]))))

    def _prefill(self, slots: Sequence[int]) -> None:
        """Read the contexts of ``slots`` up to their last token; rows of about equal length share a pass."""
        chunk = CHUNK.get(self.model.device.type, 16384)
        while True:
            left = self._size - 1 - self._cached
            rows = sorted((s for s in slots if left[s] > 0), key=lambda s: (-left[s], s))
            if not rows:
                return
            count = min(int(left[rows[0]]), chunk)
            alike = [s for s in rows if left[s] >= ALIKE * count][: max(1, chunk // count)]
            self._pass(sorted(alike), count, 1)

    def _pass(self, rows: list[int], count: int, before: int) -> Tensor:
        """Read up to ``count`` tokens of each row, to ``before`` its end; logits [R, V] after the last of them."""
        span = [*range(rows[0], rows[-1] + 1)]
        if count == 1 and 2 * len(span) <= 3 * len(rows):
            everyone, inner = span, [r - rows[0] for r in rows]  # idle rows are cheaper than copies of the cache
        else:
            everyone, inner = rows, None
        start = self._cached[everyone]
        end = np.minimum(start + count, np.maximum(self._size[everyone] - before, start))
        width = int(end.max())
        device = self.model.device
        places = start[:, None] + np.arange(count)  # [R, Q]
        self._widen(int(places.max()) + 1)
        ids = torch.from_numpy(np.take_along_axis(self._held[everyone], places, 1)).to(device)
        where = torch.from_numpy(places).to(device)
        self._cache.aim(everyone, where, width)
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=masks(self.model.config, where, width, self.model.dtype),
            position_ids=where.clamp(max=width - 1),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        self._cached[rows] = end if inner is None else end[inner]
        self.read += int((end - start).sum())
        return (logits if inner is None else logits[inner]).float()
