"""The vLLM sampler against the one suite, on two real servers on a CPU in fp32; swaps, faults, returns."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from turngym.agents import ContextFull, Request, Sample
from turngym.agents.samplers import conformance as suite
from turngym.agents.samplers.vllm import VllmSampler
from turngym.agents.samplers.vllm_weights import Disagreement, Probe, VllmWeights, next_token, probes
from turngym.envs import AgentError
from turngym.trainers.servers import Process, wait

from .conftest import SIZE, STARTING, STOP, network

EXACT = 1e-5


@dataclass
class Case:
    """The weights by version, and the trainer's own view of them, without a cache."""

    weights: dict[int, dict[str, torch.Tensor]]
    giver: VllmWeights
    urls: list[str]

    def sampler(self, **options: Any) -> VllmSampler:
        return VllmSampler(self.urls, initial=None, weights=self.giver, **options)

    def trained(self, request: Request, sample: Sample, version: int) -> list[float]:
        model = network(0)
        model.load_state_dict(self.weights[version])
        return suite.learner_logps(model, request, sample)

    def later(self) -> list[tuple[int, dict[str, torch.Tensor]]]:
        return [(v, tensors) for v, tensors in self.weights.items() if v]


@pytest.fixture
def case(servers: list[Process], tmp_path: Path) -> Iterator[Case]:
    weights = {version: dict(network(version).state_dict()) for version in range(4)}
    urls = [server.url for server in servers]
    giver = VllmWeights(urls, folder=tmp_path)
    giver.publish(weights[0].items(), 0)
    yield Case(weights, giver, urls)
    giver.close()


def requests(count: int = 9, **options: Any) -> list[Request]:
    rng = np.random.default_rng(0)
    stem = rng.integers(2, SIZE, 40).tolist()
    ids = [tuple(stem[: i % 5 * 9] + rng.integers(2, SIZE, rng.integers(1, 12)).tolist()) for i in range(count)]
    ids[1] = ids[4] = ids[0]
    asked = [Request(i, max_tokens=8, stop=(STOP, 2, 3), seed=(5, n), session=str(n)) for n, i in enumerate(ids)]
    return [replace(r, **options) for r in asked]


def run(case: Case, check: Callable[[VllmSampler], Awaitable[Any]], **options: Any) -> Any:
    async def whole() -> Any:
        sampler = case.sampler(**options)
        try:
            return await asyncio.wait_for(check(sampler), 300)
        finally:
            await sampler.shut()

    return asyncio.run(whole())


def test_ids_round_trip(case: Case) -> None:
    run(case, lambda s: suite.ids_round_trip(s, requests(), SIZE))


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_log_probs(case: Case, temperature: float) -> None:
    asked = requests(temperature=temperature)
    print(run(case, lambda s: suite.log_probs_are_the_trainers(s, asked, case.trained, EXACT)))


def test_reasons(case: Case) -> None:
    run(case, lambda s: suite.reasons_are_true(s, requests(20)))


def test_company(case: Case) -> None:
    run(case, lambda s: suite.company_changes_nothing(s, requests(), EXACT))


def test_cancelling(case: Case) -> None:
    run(case, lambda s: suite.cancelling_harms_nobody(s, requests(), EXACT))


def test_new_weights(case: Case) -> None:
    run(case, lambda s: suite.new_weights_are_used(s, requests(), case.later(), case.trained, EXACT))


def test_swaps_in_flight_lose_no_token(case: Case) -> None:
    asked = requests(max_tokens=400, stop=())

    async def check(sampler: VllmSampler) -> set[int]:
        running = [asyncio.ensure_future(sampler(r)) for r in asked]
        for version, tensors in case.later():
            await asyncio.sleep(0.5)
            sampler.publish(tensors.items(), version)
        seen = set[int]()
        for request, sample in zip(asked, await asyncio.gather(*running), strict=True):
            assert len(sample.tokens) == 400
            assert list(sample.versions) == sorted(sample.versions)
            for version in set(sample.versions):
                wanted = case.trained(request, sample, version)
                pairs = zip(sample.logps, wanted, sample.versions, strict=True)
                assert max(abs(a - b) for a, b, v in pairs if v == version) <= EXACT
            seen |= set(sample.versions)
        return seen

    assert len(run(case, check)) > 1


def test_swaps_in_flight_are_told(case: Case) -> None:
    asked = requests(max_tokens=40)
    run(case, lambda s: suite.swaps_in_flight_are_told(s, asked, case.later(), case.trained, EXACT))


def test_a_context_beyond_the_servers_is_said(case: Case) -> None:
    async def check(sampler: VllmSampler) -> None:
        with pytest.raises(ContextFull, match="beyond the 2048"):
            await sampler(Request((5,) * 2047, max_tokens=2))

    run(case, check)


def test_the_probe_agrees_and_finds_another_model(case: Case, tmp_path: Path) -> None:
    model = network(0)
    probe = Probe(probes(SIZE), next_token(model), 1e-4)
    giver = VllmWeights(case.urls, folder=tmp_path / "probe", probe=probe)
    giver.publish(model.state_dict().items(), 5)
    with pytest.raises(Disagreement, match=r"127\.0\.0\.1.*version 6.*differs by"):
        giver.publish(case.weights[1].items(), 6)
    giver.close()


def kill(server: Process) -> None:
    assert server._process is not None
    os.killpg(server._process.pid, signal.SIGKILL)
    server.stop()


def test_a_server_that_was_killed_or_torn_is_out_until_it_has_the_present_weights(
    case: Case, servers: list[Process]
) -> None:
    asked = requests(max_tokens=300, stop=())

    async def killed(sampler: VllmSampler) -> None:
        running = [asyncio.ensure_future(sampler(r)) for r in asked]
        await asyncio.sleep(0.3)
        kill(servers[0])
        samples = await asyncio.gather(*running)  # those of the dead server were asked again at the other
        assert all(len(s.tokens) == 300 for s in samples)

    run(case, killed, patience=60.0)
    case.giver.publish(case.weights[1].items(), 1)
    assert case.giver.live == (1,)

    async def half_written(sampler: VllmSampler) -> None:
        """An update that fails in the middle: whatever the server holds now, it plays no more."""
        waiting = asyncio.ensure_future(sampler(asked[0]))
        await asyncio.sleep(0.1)
        sampler.publish((case.weights[1] | {"model.norm.weight": torch.zeros(3)}).items(), 2)
        assert case.giver.live == ()
        for one in (waiting, sampler(asked[1])):
            with pytest.raises(AgentError):
                await one

    run(case, half_written)
    case.giver.publish(case.weights[1].items(), 1)
    assert case.giver.live == () and not case.giver.heal()
    servers[1].stop()
    servers[1].start()
    servers[0].start()
    wait(servers, STARTING)

    async def stale(sampler: VllmSampler) -> None:
        with pytest.raises(AgentError, match="started again"):
            await sampler(asked[0])

    run(replace(case, urls=[servers[0].url]), stale)
    assert case.giver.heal() and case.giver.live == (0, 1)
    assert not case.giver.heal()
    check: Callable[[VllmSampler], Coroutine[Any, Any, Any]] = lambda s: suite.log_probs_are_the_trainers(  # noqa: E731
        s, requests(), case.trained, EXACT, 1
    )
    run(replace(case, urls=[servers[0].url]), check)
