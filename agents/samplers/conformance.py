"""What every sampler must do, as checks that any sampler can be put to; each raises AssertionError and says why.

A check is given a sampler, the requests to ask, and ``trained``: the trainer's log-probabilities of a sample's tokens
under the weights of one version. ``tolerance`` is the largest difference allowed: 1e-5 in fp32, 2e-2 in bf16.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..core import Request, Sample, Sampler

Trained = Callable[[Request, Sample, int], Sequence[float]]
"""(request, sample, version) to the log-probability [T] that the trainer gives each token at the request's heat."""


class Published(Sampler, Protocol):
    """A sampler that takes weights."""

    def publish(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None: ...


def learner_logps(model: Any, request: Request, sample: Sample) -> list[float]:
    """The log-probability [T] that a causal ``model`` gives each token in one pass, without a cache or company."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([request.ids + sample.tokens])).logits[0, len(request.ids) - 1 : -1]
    logp = (logits.float() / (request.temperature or 1.0)).log_softmax(-1)
    return [float(x) for x in logp.gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]]


async def all_at_once(sampler: Sampler, requests: Sequence[Request]) -> list[Sample]:
    return await asyncio.gather(*map(sampler, requests))


async def ids_round_trip(sampler: Sampler, requests: Sequence[Request], vocabulary: int) -> None:
    """Ids in, ids out: whole numbers of the vocabulary, one log-probability and one version each."""
    for request, sample in zip(requests, await all_at_once(sampler, requests), strict=True):
        sizes = {len(sample.tokens), len(sample.logps), len(sample.versions)}
        assert len(sizes) == 1, f"{sample}: tokens, log-probs and versions must be equally many"
        assert all(type(t) is int and 0 <= t < vocabulary for t in sample.tokens), f"{sample.tokens}: not ids"
        assert all(logp <= 0 for logp in sample.logps), f"{sample.logps}: not log-probabilities"
        longer = replace(request, ids=(*request.ids, *sample.tokens))  # the next turn extends exactly these
        assert (await sampler(longer)).tokens, "a context that ends in sampled tokens was not continued"


async def log_probs_are_the_trainers(
    sampler: Sampler, requests: Sequence[Request], trained: Trained, tolerance: float, version: int = 0
) -> float:
    """Log-probabilities are of the distribution sampled from; returns the largest difference."""
    worst = 0.0
    for request, sample in zip(requests, await all_at_once(sampler, requests), strict=True):
        assert set(sample.versions) == {version}, f"{sample.versions}: expected version {version}"
        wanted = trained(request, sample, version)
        worst = max(worst, *(abs(a - b) for a, b in zip(sample.logps, wanted, strict=True)))
    assert worst <= tolerance, f"a log-probability is {worst:.2g} from the trainer's, allowed {tolerance:.2g}"
    return worst


async def reasons_are_true(sampler: Sampler, requests: Sequence[Request]) -> None:
    """``stop`` ends in a stop token, ``length`` has all tokens asked for; no stop token stands before the end."""
    for size in (1, 3, 8):
        asked = [replace(r, max_tokens=size) for r in requests]
        for request, sample in zip(asked, await all_at_once(sampler, asked), strict=True):
            assert not set(sample.tokens[:-1]) & set(request.stop), f"{sample} goes on after a stop token"
            stopped = sample.tokens[-1] in request.stop
            assert sample.finish == ("stop" if stopped else "length"), f"{sample.finish} is not why {sample} ended"
            assert stopped or len(sample.tokens) == size, f"{sample} is shorter than asked and did not stop"


async def company_changes_nothing(sampler: Sampler, requests: Sequence[Request], tolerance: float) -> None:
    """Each request gets what it gets alone, whatever runs beside it."""
    together = await all_at_once(sampler, requests)
    for request, sample in zip(requests, together, strict=True):
        alone = await sampler(request)
        assert replace(alone, logps=()) == replace(sample, logps=()), f"{alone} alone, {sample} in company"
        gaps = [abs(a - b) for a, b in zip(alone.logps, sample.logps, strict=True)]
        assert max(gaps) <= tolerance, f"log-probabilities differ by {max(gaps):.2g} in company"


async def cancelling_harms_nobody(sampler: Sampler, requests: Sequence[Request], tolerance: float) -> None:
    """A cancelled or timed-out request ends at once; the others get what they would have got."""
    wanted = await all_at_once(sampler, requests)
    long = [replace(r, max_tokens=64, stop=(), seed=(*r.seed, 1)) for r in requests]
    gone = [asyncio.ensure_future(sampler(r)) for r in long]
    staying = [asyncio.ensure_future(sampler(r)) for r in requests]
    await asyncio.sleep(0)
    for task in gone[::2]:
        task.cancel()
    for task in gone[1::2]:
        try:
            await asyncio.wait_for(task, 1e-3)
        except TimeoutError:
            pass
    for sample, old in zip(await asyncio.gather(*staying), wanted, strict=True):
        assert sample.tokens == old.tokens, "another's cancellation changed a sample"
        assert max(abs(a - b) for a, b in zip(sample.logps, old.logps, strict=True)) <= tolerance
    ended = await asyncio.gather(*gone, return_exceptions=True)
    assert all(isinstance(e, asyncio.CancelledError) for e in ended[::2]), "a cancelled request was answered"


async def new_weights_are_used(
    sampler: Published,
    requests: Sequence[Request],
    weights: Sequence[tuple[int, dict[str, Tensor]]],
    trained: Trained,
    tolerance: float,
) -> None:
    """After each swap, every request matches the fresh weights, although its prefix was read under the old ones."""
    for version, tensors in weights:
        sampler.publish(tensors.items(), version)
        await log_probs_are_the_trainers(sampler, requests, trained, tolerance, version)


async def swaps_in_flight_are_told(
    sampler: Published,
    requests: Sequence[Request],
    weights: Sequence[tuple[int, dict[str, Tensor]]],
    trained: Trained,
    tolerance: float,
) -> set[int]:
    """Weights change while requests run: each token's log-probability is the one that its version gives."""
    running = [asyncio.ensure_future(sampler(replace(r, stop=()))) for r in requests]
    for version, tensors in weights:
        await asyncio.sleep(2e-3)
        sampler.publish(tensors.items(), version)
    seen = set[int]()
    for request, sample in zip(requests, await asyncio.gather(*running), strict=True):
        assert list(sample.versions) == sorted(sample.versions), f"{sample.versions} go back"
        for version in set(sample.versions):
            wanted = trained(request, sample, version)
            gaps = [abs(a - b) for a, b, v in zip(sample.logps, wanted, sample.versions, strict=True) if v == version]
            assert max(gaps) <= tolerance, f"tokens of version {version} are {max(gaps):.2g} from its log-probs"
        seen |= set(sample.versions)
    return seen
