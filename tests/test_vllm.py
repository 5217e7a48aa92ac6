"""The vLLM sampler on a stand-in of the same words: what a server may do wrong, and who pays for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from stand_in import LONGEST, SIZE, StandIn, serving

from turngym.agents import ContextFull, Request
from turngym.agents.samplers import conformance as suite
from turngym.agents.samplers.vllm import VllmSampler
from turngym.envs import AgentError, Image, UsageError

ASKED = Request((3, 4), max_tokens=6, seed=(7, 1))


@pytest.fixture
def two() -> Iterator[tuple[StandIn, StandIn]]:
    servers = StandIn(), StandIn()
    with serving(*servers):
        yield servers


def run(servers: tuple[StandIn, ...], check: Callable[[VllmSampler], Awaitable[Any]], **options: Any) -> Any:
    async def whole() -> Any:
        sampler = VllmSampler([server.url for server in servers], **options)
        try:
            return await asyncio.wait_for(check(sampler), 60)
        finally:
            await sampler.shut()

    return asyncio.run(whole())


def requests(count: int = 9) -> list[Request]:
    return [Request((2, n % SIZE), max_tokens=8, stop=(1,), seed=(5, n), session=str(n)) for n in range(count)]


@pytest.mark.parametrize("check", ["round", "reasons", "company", "cancelling"])
def test_it_keeps_the_contract(two: tuple[StandIn, StandIn], check: str) -> None:
    checks: dict[str, Callable[[VllmSampler], Awaitable[Any]]] = {
        "round": lambda s: suite.ids_round_trip(s, requests(), SIZE),
        "reasons": lambda s: suite.reasons_are_true(s, requests()),
        "company": lambda s: suite.company_changes_nothing(s, requests(), 0.0),
        "cancelling": lambda s: suite.cancelling_harms_nobody(s, requests(), 0.0),
    }
    run(two, checks[check])


def test_what_cannot_be_done_is_refused(two: tuple[StandIn, StandIn]) -> None:
    wrong: list[dict[str, Any]] = [
        {"top_k": 5}, {"top_p": 0.9}, {"images": (Image(b""),)}, {"ids": ()}, {"max_tokens": 0},
        {"temperature": -1.0}, {"temperature": 0.009},
    ]  # fmt: skip

    async def check(sampler: VllmSampler) -> None:
        for change in wrong:
            with pytest.raises(UsageError):
                await sampler(replace(ASKED, **change))
        with pytest.raises(ContextFull, match=f"beyond the {LONGEST}"):
            await sampler(replace(ASKED, max_tokens=LONGEST - 1))
        with pytest.raises(UsageError, match="whoever trains publishes"):
            sampler.publish({}.items(), 1)

    run(two, check)
    assert two[0].asked == two[1].asked == 0
    with pytest.raises(UsageError, match="at least one server"):
        VllmSampler([])


FAULTS = {
    "500": "500: out of memory", "garbage": "no JSON", "short": "5 tokens, 6 log-probs", "nan": "no log-prob",
    "abort": "ended by 'abort'",
}  # fmt: skip


@pytest.mark.parametrize("how", FAULTS)
def test_a_server_that_fails_costs_its_requests_and_no_others(
    two: tuple[StandIn, StandIn], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = two

    async def check(sampler: VllmSampler) -> None:
        bad.how = how
        with pytest.raises(AgentError, match=FAULTS[how]):
            await sampler(replace(ASKED, session="s"))
        for n in range(5):
            await sampler(replace(ASKED, session=f"later {n}"))
        assert bad.asked == 1 and good.asked == 5

    with caplog.at_level(logging.WARNING, "turngym"):
        run(two, check, again=60.0)
    assert [r.message for r in caplog.records] == [r.message for r in caplog.records if "is out" in r.message]
    assert len(caplog.records) == 1 and bad.url in caplog.text


def test_a_server_that_hangs_is_left_at_the_timeout_and_sees_it(two: tuple[StandIn, StandIn]) -> None:
    bad, good = two
    bad.how = "hang"
    sample = run(two, lambda s: s(ASKED), timeout=0.3, patience=30.0)
    assert len(sample.tokens) == 6 and good.asked == bad.asked == bad.cancelled == 1


def test_a_cancelled_request_is_cancelled_at_its_server(two: tuple[StandIn, StandIn]) -> None:
    two[0].how = "hang"

    async def check(sampler: VllmSampler) -> None:
        task = asyncio.ensure_future(sampler(ASKED))
        while not two[0].asked:
            await asyncio.sleep(0.01)
        task.cancel()
        while not two[0].cancelled:
            await asyncio.sleep(0.01)
        two[0].how = ""
        await sampler(replace(ASKED, session="s"))  # nobody's fault: the server is still asked

    run(two, check)
    assert two[0].asked == 2


def test_a_server_that_is_back_is_tried_by_one_request(two: tuple[StandIn, StandIn]) -> None:
    bad, good = two
    bad.how = "500"

    async def check(sampler: VllmSampler) -> None:
        with pytest.raises(AgentError):
            await sampler(ASKED)
        bad.how, bad.seconds = "", 0.2
        await asyncio.sleep(0.2)
        await asyncio.gather(*(sampler(replace(ASKED, session=f"{n}")) for n in range(6)))
        assert (bad.asked, good.asked) == (2, 5)

    run(two, check, again=0.1)


def test_the_wrong_model_and_the_wrong_weights_are_refused(two: tuple[StandIn, StandIn]) -> None:
    two[0].model = "other"
    with pytest.raises(AgentError, match="serves other, not policy"):
        run(two[:1], lambda s: s(ASKED))
    for version, why in (("default", "started again"), ("torn", "half written"), ("v7", "not a run's")):
        two[1].version = version
        with pytest.raises(AgentError, match=why):
            run(two[1:], lambda s: s(ASKED), initial=None)
    two[1].version = "12"
    assert run(two[1:], lambda s: s(ASKED)).versions == (12,) * 6


def test_the_first_weights_have_the_version_that_is_said(two: tuple[StandIn, StandIn]) -> None:
    assert run(two, lambda s: s(ASKED)).versions == (0,) * 6
    assert run(two, lambda s: s(ASKED), initial=3).versions == (3,) * 6


def test_a_request_that_is_refused_is_no_servers_fault(two: tuple[StandIn, StandIn]) -> None:
    two[0].how = "refuse"

    async def check(sampler: VllmSampler) -> None:
        with pytest.raises(AgentError, match="no such token"):
            await sampler(ASKED)
        assert sampler._live(asyncio.get_running_loop().time()) == [0, 1]

    run(two, check, patience=30.0)


def test_only_servers_with_the_present_weights_are_asked(two: tuple[StandIn, StandIn]) -> None:
    async def check(sampler: VllmSampler) -> None:
        sampler.tell(4, (1,))
        assert sampler.version == 4
        for n in range(4):
            await sampler(replace(ASKED, session=str(n)))
        sampler.tell(5, ())
        with pytest.raises(AgentError, match="every server is out"):
            await sampler(ASKED)
        sampler.close()
        with pytest.raises(AgentError, match="closed"):
            await sampler(ASKED)

    run(two, check)
    assert (two[0].asked, two[1].asked) == (0, 4)


def test_patience_ends() -> None:
    with serving(server := StandIn()):
        server.how = "500"
        with pytest.raises(AgentError, match="out of memory"):
            run((server,), lambda s: s(ASKED), patience=0.5, again=0.1)
        assert server.asked > 1
