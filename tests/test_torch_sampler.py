"""The in-process sampler beside the conformance suite: what begins with what, weights, errors, the event loop."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from turngym.agents import ContextFull, Request, Sample
from turngym.agents.samplers import TorchSampler
from turngym.agents.samplers.decoder import Job
from turngym.agents.tiny import model as shape
from turngym.envs import AgentError, UsageError

SIZE, STOP = 40, 1


def network(seed: int = 0) -> Any:
    return shape.build(SIZE, pad=0, end=STOP, seed=seed, layers=2, width=32, heads=2).eval()


class Recording(TorchSampler):
    """Notes how many requests begin together."""

    def __init__(self, model: Any, **options: Any) -> None:
        super().__init__(model, **options)
        self.batches = list[int]()

    def _change(self) -> None:
        before = len(self._running)
        super()._change()
        if len(self._running) > before:
            self.batches.append(len(self._running) - before)


@pytest.fixture
def sampler() -> Iterator[Recording]:
    sampler = Recording(network())
    yield sampler
    sampler.close()


def requests(count: int = 9, **options: Any) -> list[Request]:
    rng = np.random.default_rng(0)
    ids = [tuple(rng.integers(2, SIZE, rng.integers(1, 12)).tolist()) for _ in range(count)]
    return [Request(i, max_tokens=8, stop=(STOP, 2, 3), seed=(5, n), **options) for n, i in enumerate(ids)]


def close(one: Sample, other: Sample) -> None:
    assert replace(one, logps=()) == replace(other, logps=())
    assert one.logps == pytest.approx(other.logps, abs=1e-5)


def test_rows_of_different_temperature_share_a_batch(sampler: Recording) -> None:
    asked = [replace(r, temperature=t) for r, t in zip(requests(6), [0.0, 1.0, 0.7] * 2, strict=True)]
    for request, sample in zip(asked, sampler.decode(asked), strict=True):
        close(sampler.decode([request])[0], sample)


def test_the_same_request_draws_the_same_tokens_and_seeds_differ(sampler: Recording) -> None:
    request = replace(requests(1)[0], stop=(), max_tokens=10)
    close(*(sampler.decode([request])[0] for _ in range(2)))
    others = [replace(request, seed=(5, n)) for n in range(10)]
    assert len({s.tokens for s in sampler.decode(others)}) == 10


def test_publishing_changes_weights_and_versions(sampler: Recording) -> None:
    asked, other = requests(), network(seed=1)
    before = sampler.decode(asked)
    sampler.publish(other.state_dict().items(), 7)
    after = sampler.decode(asked)
    assert {v for s in before for v in s.versions} == {0} and {v for s in after for v in s.versions} == {7}
    assert [s.tokens for s in before] != [s.tokens for s in after]
    fresh = TorchSampler(other)
    for one, other_sample in zip(fresh.decode(asked), after, strict=True):
        close(replace(one, versions=other_sample.versions), other_sample)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()  # the learner goes on; the sampler's copy stays
    for one, other_sample in zip(sampler.decode(asked), after, strict=True):
        close(one, other_sample)
    with pytest.raises(KeyError, match="no weights no.such.weight"):
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
    close(asyncio.run(sampler(requests(1)[0])), sampler.decode(requests(1))[0])


def test_without_togetherness_nobody_waits(sampler: Recording) -> None:
    sampler.together = False

    async def main() -> Sample:
        with sampler.playing(), sampler.playing():
            return await sampler(requests(1)[0])

    assert asyncio.run(main()).tokens


def test_together_the_same_run_computes_the_same_bits() -> None:
    """Whatever the pauses between the requests of an episode, and whatever was played under older weights."""

    async def episode(sampler: TorchSampler, number: int, pauses: np.random.Generator) -> list[Sample]:
        samples, ids = list[Sample](), requests(12)[number].ids
        with sampler.playing():
            for turn in range(4):
                await asyncio.sleep(float(pauses.exponential(2e-3)))
                request = Request(ids, 6, (STOP,), seed=(number, turn), session=str(number))
                samples.append(await sampler(request))
                ids = (*ids[:3], *samples[-1].tokens, 7, 8, 9)
        return samples

    async def main(sampler: TorchSampler, seed: int) -> list[list[Sample]]:
        pauses = np.random.default_rng(seed)
        return await asyncio.gather(*(episode(sampler, n, pauses) for n in range(12)))

    first, second = TorchSampler(network(), rows=8), TorchSampler(network(), rows=8)
    second.decode(requests(20))
    second.publish(network().state_dict().items(), 0)
    assert asyncio.run(main(first, 0)) == asyncio.run(main(second, 1))
    first.close()
    second.close()


def test_a_context_beyond_the_models_is_the_agents_failure(sampler: Recording) -> None:
    async def main() -> None:
        good, bad = await asyncio.gather(
            sampler(requests(1)[0]), sampler(Request((5,) * 2047, max_tokens=2)), return_exceptions=True
        )
        assert isinstance(good, Sample) and isinstance(bad, ContextFull)

    asyncio.run(main())


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
    def _steps(self) -> list[tuple[Job, Sample]]:
        if len(self._running) > 1:
            raise RuntimeError("out of memory")
        return super()._steps()


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
        def _steps(self) -> list[tuple[Job, Sample]]:
            started.set()
            assert free.wait(20), "the event loop did nothing meanwhile"
            return super()._steps()

    started, free, sampler = threading.Event(), threading.Event(), Slow(network())

    async def main() -> Sample:
        waiting = asyncio.create_task(sampler(requests(1)[0]))
        assert await asyncio.to_thread(started.wait, 20)
        free.set()
        return await waiting

    assert asyncio.run(main()).tokens
    sampler.close()


def test_closing_tells_those_who_wait() -> None:
    sampler = TorchSampler(network())

    async def main() -> None:
        with sampler.playing(), sampler.playing():
            waiting = asyncio.create_task(sampler(requests(1)[0]))
            await settle()
            sampler.close()
            with pytest.raises(AgentError, match="closed"):
                await waiting

    asyncio.run(main())
