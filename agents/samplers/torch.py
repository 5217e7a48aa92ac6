"""The in-process sampler: any Hugging Face causal LM, decoded in batches of all episodes that wait."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...envs import UsageError
from ..core import Request, Sample

_Waiting = tuple[Request, "asyncio.Future[Sample]"]


class TorchSampler:
    """Samples from its own copy of a model; ``publish`` gives it new weights.

    Requests are decoded together once every episode inside ``playing()`` has one (or at once when there is no such
    episode): no time-out decides what shares a batch, so the same run always decodes the same batches (rule 10).
    Decoding runs in one thread of its own; the event loop stays free.
    """

    def __init__(self, model: Any, *, rows: int = 64) -> None:
        self.model, self.rows, self.version = model.eval(), rows, 0
        self._waiting: list[_Waiting] = []
        self._playing = 0
        self._thread: Executor = ThreadPoolExecutor(1, "sampler")

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Counts one episode among those that a batch waits for."""
        self._playing += 1
        try:
            yield
        finally:
            self._playing -= 1
            self._start_if_all_wait()

    async def __call__(self, request: Request) -> Sample:
        check(request)
        answer: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        self._start_if_all_wait()
        return await answer

    def publish(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Copies the weights in; call it between batches. Raises KeyError for a name that the model lacks."""
        own = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in tensors:
                own[name].copy_(tensor)
        self.version = version

    def close(self) -> None:
        self._thread.shutdown()

    def _start_if_all_wait(self) -> None:
        self._waiting = [(r, answer) for r, answer in self._waiting if not answer.done()]  # the rest was cancelled
        if self._waiting and len(self._waiting) >= self._playing:
            batch, self._waiting = self._waiting, []
            task = asyncio.get_running_loop().create_task(self._answer(batch))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _answer(self, batch: list[_Waiting]) -> None:
        requests = [request for request, _ in batch]
        loop = asyncio.get_running_loop()
        try:
            samples = await loop.run_in_executor(self._thread, self.decode, requests)
        except BaseException as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            raise
        for (_, answer), sample in zip(batch, samples, strict=True):
            if not answer.done():
                answer.set_result(sample)

    def decode(self, requests: Sequence[Request]) -> list[Sample]:
        """A Sample for each request, in chunks of ``rows`` of about equal length."""
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].ids), requests[i].ids, requests[i].seed))
        samples: dict[int, Sample] = {}
        for start in range(0, len(order), self.rows):
            chunk = order[start : start + self.rows]
            samples |= zip(chunk, self._chunk([requests[i] for i in chunk]), strict=True)
        return [samples[i] for i in range(len(requests))]

    @torch.inference_mode()
    def _chunk(self, requests: Sequence[Request]) -> list[Sample]:
        device = self.model.device
        limit = max(r.max_tokens for r in requests)
        uniform = torch.tensor(np.array([numbers(r, limit) for r in requests]), device=device)  # [R, limit]
        heat = torch.tensor([r.temperature for r in requests], device=device)[:, None]
        logits, past, seen = self._prefill(requests)
        open_rows, tokens, logps = [True] * len(requests), list[list[int]](), list[list[float]]()
        for step in range(limit):
            chosen, logp = draw(logits, heat, uniform[:, step])
            tokens.append(chosen.tolist())
            logps.append(logp.tolist())
            for i, request in enumerate(requests):
                open_rows[i] &= tokens[-1][i] not in request.stop and step + 1 < request.max_tokens
            if not any(open_rows):
                break
            seen = torch.cat([seen, seen.new_ones(len(requests), 1)], 1)
            logits, past = self._forward(chosen[:, None], seen, past)
        return [self._sample(r, [t[i] for t in tokens], [p[i] for p in logps]) for i, r in enumerate(requests)]

    def _prefill(self, requests: Sequence[Request]) -> tuple[Tensor, Any, Tensor]:
        """Next-token logits [R, V], cache and attention mask [R, T] of the prompts, equal ones read once."""
        prompts = list(dict.fromkeys(r.ids for r in requests))
        number = {prompt: i for i, prompt in enumerate(prompts)}
        place = torch.tensor([number[r.ids] for r in requests], device=self.model.device)
        ids, seen = left_padded(prompts, self.model.device)
        logits, past = self._forward(ids, seen, None)
        past.batch_select_indices(place)
        return logits[place], past, seen[place]

    def _forward(self, ids: Tensor, seen: Tensor, past: Any) -> tuple[Tensor, Any]:
        """Logits [R, V] after the last of ``ids`` [R, N], which end the ``seen`` [R, T] tokens; and the cache."""
        out = self.model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=(seen.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :],
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float(), out.past_key_values

    def _sample(self, request: Request, tokens: list[int], logps: list[float]) -> Sample:
        end = next((i + 1 for i, token in enumerate(tokens) if token in request.stop), None)
        size = min(end or request.max_tokens, request.max_tokens)
        stopped = end is not None and end <= request.max_tokens
        return Sample(
            tuple(tokens[:size]), tuple(logps[:size]), (self.version,) * size, "stop" if stopped else "length"
        )


def check(request: Request) -> None:
    """Raises UsageError for what this sampler cannot do (rule 9)."""
    if request.top_k or request.top_p < 1.0:
        raise UsageError("the torch sampler samples from the whole distribution: leave top_k and top_p unset")
    if request.images:
        raise UsageError("the torch sampler reads words only, no images")
    if not request.ids or request.max_tokens < 1 or request.temperature < 0:
        raise UsageError("a request wants ids, max_tokens of at least 1 and a temperature of at least 0")


def draw(logits: Tensor, heat: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [R] by inverse CDF at ``uniform`` [R], and their log-probabilities [R] under softmax(logits / heat).

    Where heat [R, 1] is 0 the likeliest token is taken, with its log-probability at temperature 1.
    """
    greedy = heat[:, 0] == 0
    logp = (logits / torch.where(greedy[:, None], 1.0, heat)).log_softmax(-1)
    mass = logp.exp().double().cumsum(-1)
    drawn = torch.searchsorted(mass, uniform[:, None] * mass[:, -1:], right=True).clamp(max=logits.shape[-1] - 1)
    chosen = torch.where(greedy, logits.argmax(-1), drawn[:, 0])
    return chosen, logp.gather(1, chosen[:, None])[:, 0]


def numbers(request: Request, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``count`` uniform numbers that depend on the request's seed alone, one a position."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(request.seed))).random(count)


def left_padded(prompts: Sequence[tuple[int, ...]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask [R, T], the prompts ending at the right edge."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, seen
