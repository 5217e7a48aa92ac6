"""The in-process sampler against a plain forward pass, and what shares a batch with what."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from turngym.agents import Request, Sample
from turngym.agents.samplers import TorchSampler
from turngym.agents.samplers.torch import draw, numbers
from turngym.agents.tiny import model as shape
from turngym.envs import UsageError

SIZE, STOP = 40, 1


def network(seed: int = 0) -> Any:
    return shape.build(SIZE, pad=0, end=STOP, seed=seed, layers=2, width=32, heads=2).eval()


class Recording(TorchSampler):
    """Notes the size of every batch."""

    def __init__(self, model: Any, *, rows: int = 64) -> None:
        super().__init__(model, rows=rows)
        self.batches = list[int]()

    def decode(self, requests: Sequence[Request]) -> list[Sample]:
        self.batches.append(len(requests))
        return super().decode(requests)


@pytest.fixture
def sampler() -> Iterator[Recording]:
    sampler = Recording(network())
    yield sampler
    sampler.close()


def requests(count: int = 9, **options: Any) -> list[Request]:
    rng = np.random.default_rng(0)
    ids = [tuple(rng.integers(2, SIZE, rng.integers(1, 12)).tolist()) for _ in range(count)]
    return [Request(i, max_tokens=8, stop=(STOP, 2, 3), seed=(5, n), **options) for n, i in enumerate(ids)]


def plain(model: Any, request: Request, sample: Sample) -> torch.Tensor:
    """Log-probabilities [T, V] of every position that was sampled, by one pass without cache or padding."""
    ids = torch.tensor([request.ids + sample.tokens])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, len(request.ids) - 1 : -1].float()
    return (logits / (request.temperature or 1.0)).log_softmax(-1)


def close(one: Sample, other: Sample) -> None:
    assert replace(one, logps=()) == replace(other, logps=())
    assert one.logps == pytest.approx(other.logps, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_log_probabilities_are_those_of_a_plain_pass(sampler: Recording, temperature: float) -> None:
    asked = requests(temperature=temperature)
    for request, sample in zip(asked, sampler.decode(asked), strict=True):
        logp = plain(sampler.model, request, sample)
        wanted = logp.gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]
        assert sample.logps == pytest.approx(wanted.tolist(), abs=1e-5)
        assert len(sample.tokens) == len(sample.logps) == len(sample.versions)
        if temperature == 0.0:
            assert sample.tokens == tuple(logp.argmax(-1).tolist())


def test_models_of_absolute_positions_are_read_from_their_first_token() -> None:
    config = GPT2Config(vocab_size=SIZE, n_positions=64, n_embd=16, n_layer=1, n_head=2, initializer_range=1.0)
    config.bos_token_id = config.eos_token_id = STOP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sampler, asked = TorchSampler(GPT2LMHeadModel(config)), requests()
    for request, sample in zip(asked, sampler.decode(asked), strict=True):
        wanted = plain(sampler.model, request, sample).gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]
        assert sample.logps == pytest.approx(wanted.tolist(), abs=1e-4)
    sampler.close()


def test_samples_end_at_a_stop_token_or_by_length(sampler: Recording) -> None:
    asked = [replace(r, max_tokens=1 + i) for i, r in enumerate(requests(20))]
    samples = sampler.decode(asked)
    for request, sample in zip(asked, samples, strict=True):
        assert not set(sample.tokens[:-1]) & set(request.stop)
        stopped = sample.tokens[-1] in request.stop
        assert sample.finish == ("stop" if stopped else "length")
        assert stopped or len(sample.tokens) == request.max_tokens
    assert {s.finish for s in samples} == {"stop", "length"}
    (free,) = sampler.decode([replace(asked[0], stop=(), max_tokens=30)])
    assert (free.finish, len(free.tokens)) == ("length", 30)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_company_changes_nothing(sampler: Recording, temperature: float) -> None:
    asked = requests(temperature=temperature)
    together, small = sampler.decode(asked), Recording(sampler.model, rows=2)
    for i, request in enumerate(asked):
        close(sampler.decode([request])[0], together[i])
        close(sampler.decode([*asked[::-1], request])[-1], together[i])
        close(sampler.decode([request, replace(asked[-1], max_tokens=20)])[0], together[i])
    for one, other in zip(small.decode(asked), together, strict=True):
        close(one, other)
    small.close()


def test_rows_of_different_temperature_share_a_batch(sampler: Recording) -> None:
    asked = [replace(r, temperature=t) for r, t in zip(requests(6), [0.0, 1.0, 0.7] * 2, strict=True)]
    for request, sample in zip(asked, sampler.decode(asked), strict=True):
        close(sampler.decode([request])[0], sample)


def test_the_same_request_draws_the_same_tokens_and_seeds_differ(sampler: Recording) -> None:
    request = replace(requests(1)[0], stop=(), max_tokens=10)
    assert sampler.decode([request]) == sampler.decode([request])
    others = [replace(request, seed=(5, n)) for n in range(10)]
    assert len({s.tokens for s in sampler.decode(others)}) == 10


def test_random_numbers_are_keyed_by_seed_and_position() -> None:
    request = requests(1)[0]
    assert (numbers(request, 9)[:4] == numbers(request, 4)).all()
    assert (numbers(request, 4) != numbers(replace(request, seed=(5, 1)), 4)).all()
    many = numbers(request, 10_000)
    assert 0 <= many.min() and many.max() < 1 and abs(many.mean() - 0.5) < 0.02


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_drawn_in_proportion_to_their_probability(temperature: float) -> None:
    logits = torch.tensor([-torch.inf, 1.0, -torch.inf, 0.0, 2.0, -torch.inf])
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens, logps = draw(logits.expand(count, 6), torch.full((count, 1), temperature), uniform)
    wanted = (logits / temperature).softmax(-1)
    shares = torch.bincount(tokens, minlength=6) / count
    assert torch.allclose(shares, wanted, atol=1e-3) and shares[0] == shares[2] == shares[5] == 0
    assert torch.allclose(logps.exp(), wanted[tokens])
    first, last = draw(logits.expand(2, 6), torch.ones(2, 1), torch.tensor([0.0, 1.0 - 2**-53], dtype=torch.float64))[0]
    assert (int(first), int(last)) == (1, 4)


def test_publishing_changes_weights_and_versions(sampler: Recording) -> None:
    asked, other = requests(), network(seed=1)
    before = sampler.decode(asked)
    sampler.publish(other.state_dict().items(), 7)
    after = sampler.decode(asked)
    assert {v for s in before for v in s.versions} == {0} and {v for s in after for v in s.versions} == {7}
    assert [s.tokens for s in before] != [s.tokens for s in after]
    fresh = TorchSampler(other)
    assert [replace(s, versions=()) for s in fresh.decode(asked)] == [replace(s, versions=()) for s in after]
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()  # the learner goes on; the sampler's copy stays
    assert sampler.decode(asked) == after
    with pytest.raises(KeyError):
        sampler.publish([("no.such.weight", torch.zeros(1))], 8)
    fresh.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"top_k": 5}, "top_k"),
        ({"top_p": 0.9}, "top_p"),
        ({"images": (b"png",)}, "no images"),
        ({"ids": ()}, "wants ids"),
        ({"max_tokens": 0}, "max_tokens of at least 1"),
        ({"temperature": -1.0}, "temperature of at least 0"),
    ],
)
def test_what_is_not_supported_is_an_error(sampler: Recording, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asyncio.run(sampler(replace(requests(1)[0], **change)))
    assert sampler.batches == []


def test_a_batch_waits_for_every_episode_that_plays(sampler: Recording) -> None:
    async def episode(turns: int, pauses: int, leave: ExitStack) -> list[Sample]:
        with leave:
            samples = []
            for turn in range(turns):
                for _ in range(pauses):
                    await asyncio.sleep(0)
                samples.append(await sampler(replace(requests(1)[0], seed=(turns, turn))))
            return samples

    async def main() -> list[list[Sample]]:
        stacks = [ExitStack() for _ in range(4)]
        for stack in stacks:
            stack.enter_context(sampler.playing())
        return await asyncio.gather(*(episode(1 + i, 7 * i, stack) for i, stack in enumerate(stacks)))

    played = asyncio.run(main())
    assert sampler.batches == [4, 3, 2, 1]
    for i, samples in enumerate(played):
        for turn, sample in enumerate(samples):
            close(sample, sampler.decode([replace(requests(1)[0], seed=(1 + i, turn))])[0])


def test_nobody_playing_is_nobody_waited_for(sampler: Recording) -> None:
    assert asyncio.run(sampler(requests(1)[0])) == sampler.decode(requests(1))[0]


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_request_that_was_given_up_is_not_waited_with(sampler: Recording) -> None:
    async def main() -> None:
        stacks = [ExitStack() for _ in range(3)]
        for stack in stacks:
            stack.enter_context(sampler.playing())
        first, second, third = requests(3)
        gone = asyncio.create_task(sampler(first))
        await settle()
        gone.cancel()
        await settle()
        stacks[0].close()
        waiting = asyncio.create_task(sampler(second))
        await settle()
        assert sampler.batches == [] and not waiting.done()
        await asyncio.gather(waiting, sampler(third))
        stacks[1].close()
        stacks[2].close()

    asyncio.run(main())
    assert sampler.batches == [2]


class Broken(TorchSampler):
    def decode(self, requests: Sequence[Request]) -> list[Sample]:
        if len(requests) > 1:
            raise RuntimeError("out of memory")
        return super().decode(requests)


def test_an_error_of_decoding_reaches_everyone_who_waits() -> None:
    sampler = Broken(network())

    async def main() -> tuple[list[object], Sample]:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(sampler.playing())
            failed = await asyncio.gather(*map(sampler, requests(3)), return_exceptions=True)
        return failed, await sampler(requests(1)[0])

    failed, later = asyncio.run(main())
    assert [str(e) for e in failed] == ["out of memory"] * 3 and later.tokens
    sampler.close()


def test_the_event_loop_is_free_while_a_batch_is_decoded() -> None:
    class Slow(TorchSampler):
        def decode(self, requests: Sequence[Request]) -> list[Sample]:
            started.set()
            assert free.wait(20), "the event loop did nothing meanwhile"
            return super().decode(requests)

    started, free, sampler = threading.Event(), threading.Event(), Slow(network())

    async def main() -> Sample:
        waiting = asyncio.create_task(sampler(requests(1)[0]))
        assert await asyncio.to_thread(started.wait, 20)
        free.set()
        return await waiting

    assert asyncio.run(main()).tokens
    sampler.close()
