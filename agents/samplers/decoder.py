"""Continuous batching: requests join and leave between passes, each in a slot whose prefix may be there already."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core import ContextFull, Finish, Request, Sample
from .draw import draw, numbers
from .slots import Plan, Segment, SlotCache, blocks, check, planned

WORTH = 16  # tokens: fewer are read sooner than copied
_Ids = np.ndarray[Any, np.dtype[np.int64]]
CHUNK = {"cpu": 1024}  # tokens of prompts in one pass, 16384 elsewhere


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
    shares more of its prompt with another slot, as the members of a group do, copies that slot's keys and values.
    New weights (``renew``) empty all slots: what is running reads its context again, so that every token's
    log-probability is the one that its version gives.
    """

    def __init__(self, model: Any, rows: int) -> None:
        check(model)
        self.model, self.rows, self.version = model, rows, 0
        self.limit = int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)
        self._cache = SlotCache(rows)
        self.forget()
        self.read = self.reused = 0  # tokens that passed through the model, and those copied instead

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
        self._later: dict[int, tuple[int, int]] = {}  # slots that wait for a source to have read so many tokens

    @property
    def busy(self) -> bool:
        return bool(self._jobs or self._queue)

    def renew(self, version: int) -> None:
        """The model's weights have changed."""
        self.version = version
        self._cached[:] = 0
        self._later.clear()
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
        for slot in [slot for slot, running in self._jobs.items() if running is job]:
            del self._jobs[slot]
            # whoever waited for it reads for itself
            self._later = {s: wait for s, wait in self._later.items() if slot not in (s, wait[0])}

    @torch.inference_mode()
    def step(self) -> list[tuple[Job, Sample]]:
        """One pass: a token for every running request whose context is read; those that are done."""
        self._clock += 1
        self._admit()
        rows, parts = self._due()
        if not rows and not parts:
            return []
        whole = [slot for slot, count in parts.items() if self._cached[slot] + count == self._size[slot]]
        logits = self._pass(rows, parts, whole)
        self._share()
        slots = rows + whole
        if not slots:
            return []
        jobs = [self._jobs[s] for s in slots]
        heat = torch.tensor([[j.request.temperature] for j in jobs], device=logits.device)
        uniform = torch.tensor([j.numbers[len(j.tokens)] for j in jobs], device=logits.device)
        chosen, logps = draw(logits, heat, uniform)
        done = []
        for slot, job, token, logp in zip(slots, jobs, chosen.tolist(), logps.tolist(), strict=True):
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
        """Put queued requests into free slots, with the longest prefix that is there or soon will be."""
        while self._queue and len(self._jobs) < self.rows:
            job = self._queue.popleft()
            context = np.array(job.request.ids, dtype=np.int64)
            own = self._place(job.request.session)
            shared = self._shared(context[:-1])
            best, kept = int(shared.argmax()), min(int(shared[own]), int(self._cached[own]))
            if int(shared[best]) - kept >= WORTH:
                kept = int(shared[best])
                if kept <= self._cached[best]:  # at once: another newcomer may take that slot
                    self._cache.copy(best, [own], kept)
                else:
                    self._later[own] = best, kept
            self._jobs[own] = job
            kept = 0 if own in self._later else kept
            self._write(own, context, kept)
            self.reused += kept

    def _due(self) -> tuple[list[int], dict[int, int]]:
        """Slots that go on by one token, and how many tokens of others are read: at most ``CHUNK`` in all."""
        rows, parts = [], dict[int, int]()
        room = CHUNK.get(self.model.device.type, 16384)
        for slot in sorted(self._jobs):
            left = int(self._size[slot] - self._cached[slot])
            if slot in self._later:
                continue
            if left == 1:
                rows.append(slot)
            elif room > 0:
                parts[slot] = min(left, room)
                room -= parts[slot]
        return rows, parts

    def _share(self) -> None:
        """Copy what has been read to those who wait for it."""
        ready: dict[tuple[int, int], list[int]] = {}
        for slot, (source, count) in self._later.items():
            if self._cached[source] >= count:
                ready.setdefault((source, count), []).append(slot)
        for (source, count), slots in ready.items():
            self._cache.copy(source, slots, count)
            self._cached[slots] = count
            self.reused += count * len(slots)
            for slot in slots:
                del self._later[slot]

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

    def _shared(self, context: _Ids) -> Any:
        """How many of the first tokens each slot has, or will have once its running request is read, [S]."""
        width = min(len(context), self._held.shape[1])
        there = self._cached.copy()
        reading = [slot for slot in self._jobs if slot not in self._later]
        there[reading] = np.maximum(there[reading], self._size[reading] - 1)
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

    def _pass(self, rows: list[int], parts: dict[int, int], whole: list[int]) -> Tensor:
        """Read a token of each of ``rows`` and so many of each of ``parts``; logits [K, V] after rows and ``whole``."""
        slots, places, segments, ends = [*rows], [*(self._size[rows] - 1)], list[Segment](), [*range(len(rows))]
        for slot, count in parts.items():
            begin, start = int(self._cached[slot]), len(slots)
            segments.append(Segment(slot, begin, start, start + count))
            slots += [slot] * count
            places += range(begin, begin + count)
            if slot in whole:
                ends.append(start + count - 1)
        self._cache.reserve(int(max(places)) + 1)
        device = self.model.device
        ids = torch.from_numpy(self._held[slots, places]).to(device)
        where = torch.tensor(np.array(places), device=device)
        plan = Plan(
            self._cache,
            torch.tensor(slots, device=device),
            where,
            blocks(rows, self._size[rows].tolist(), device),
            segments,
            self.model.config.get_text_config().num_hidden_layers,
        )
        with planned(self.model, plan):
            logits: Tensor = self.model(
                input_ids=ids[None],
                position_ids=where[None],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=torch.tensor(ends or [0], device=device),
            ).logits[0]
        self._cached[rows] += 1
        for slot, count in parts.items():
            self._cached[slot] += count
        self.read += len(slots)
        return logits.float()
