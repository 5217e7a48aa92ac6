"""The http sampler by the suite of all samplers, against a server of ours; and servers whose tokens are not exact."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loopback import Answer, Scripted, served
from test_conformance import EXACT, SIZE, Case, network, requests

from turngym.agents import ContextFull, Request, Sample
from turngym.agents.asked import number
from turngym.agents.chat import Prompter
from turngym.agents.endpoint import Endpoint, Retry
from turngym.agents.samplers import HttpSampler, TorchSampler
from turngym.agents.samplers import conformance as suite
from turngym.agents.serve import Service
from turngym.agents.tiny import tokenizer as words
from turngym.envs import AgentError, Image, UsageError

ONE = Request((5, 6, 7), max_tokens=2, stop=(1,))


class Published(HttpSampler):
    """A sampler whose server takes weights by its own way, here in its own thread."""

    def __init__(self, endpoint: Endpoint, there: TorchSampler, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(endpoint, "small", processed=True)
        self.there, self.loop = there, loop

    def publish(self, tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        async def take() -> None:
            self.there.publish(tensors, version)

        asyncio.run_coroutine_threadsafe(take(), self.loop).result(60)
        self.version = version


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return words.build()


@pytest.fixture
def tried(tokenizer: Any) -> Iterator[Case]:
    there = TorchSampler(network(0), rows=16, together=False)
    with served(Service(there, Prompter(tokenizer), "small").app) as at:
        weights = {v: network(v).state_dict() for v in range(4)}
        yield Case(Published(Endpoint(at.url, retry=Retry(1)), there, at.loop), network(0), weights)
    there.close()


def run(case: Case, check: Coroutine[Any, Any, Any]) -> Any:
    async def main() -> Any:
        async with case.sampler.endpoint:
            return await asyncio.wait_for(check, 120)

    return asyncio.run(main())


def test_ids_round_trip(tried: Case) -> None:
    run(tried, suite.ids_round_trip(tried.sampler, requests(), SIZE))


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_log_probs(tried: Case, temperature: float) -> None:
    asked = requests(temperature=temperature)
    run(tried, suite.log_probs_are_the_trainers(tried.sampler, asked, tried.trained, EXACT))


def test_reasons(tried: Case) -> None:
    run(tried, suite.reasons_are_true(tried.sampler, requests(20)))


def test_company(tried: Case) -> None:
    run(tried, suite.company_changes_nothing(tried.sampler, requests(), EXACT))


def test_cancelling(tried: Case) -> None:
    run(tried, suite.cancelling_harms_nobody(tried.sampler, requests(), EXACT))


def test_new_weights(tried: Case) -> None:
    run(tried, suite.new_weights_are_used(tried.sampler, requests(), tried.later(), tried.trained, EXACT))


def test_the_tokens_are_those_of_the_sampler_there(tried: Case) -> None:
    asked = requests()
    there = TorchSampler(network(0), together=False).decode([replace(r, seed=(number(r.seed),)) for r in asked])
    samples = run(tried, suite.all_at_once(tried.sampler, asked))
    assert [(s.tokens, s.finish) for s in samples] == [(s.tokens, s.finish) for s in there]


def test_a_context_beyond_the_models_is_full(tried: Case) -> None:
    limit = tried.model.config.max_position_embeddings
    with pytest.raises(ContextFull, match=f"maximum context length is {limit} tokens"):
        run(tried, tried.sampler(Request((5,) * limit)))


def ask(answer: Answer, request: Request = ONE, **options: Any) -> tuple[Sample, Scripted]:
    """The sample that a server of this answer leads to."""
    app = Scripted(answer)

    async def main(url: str) -> Sample:
        async with Endpoint(url, retry=Retry(1)) as endpoint:
            return await HttpSampler(endpoint, "m", **options)(request)

    with served(app) as at:
        return asyncio.run(asyncio.wait_for(main(at.url), 60)), app


def said(**changes: Any) -> Answer:
    """A good answer to ONE, but for these parts of its choice; None leaves one out."""
    choice = {"token_ids": [8, 9], "logprobs": {"token_logprobs": [-0.5, 0]}, "finish_reason": "length"} | changes
    return Answer(said={"model": "m", "choices": [{k: v for k, v in choice.items() if v is not None}]})


def test_what_is_asked_says_all_that_shapes_the_distribution() -> None:
    sample, app = ask(said(prompt_token_ids=[5, 6, 7]), version=3)
    assert sample == Sample((8, 9), (-0.5, 0.0), (3, 3), "length")
    body = app.saw[0].body
    assert app.saw[0].path == "/v1/completions" and body["prompt"] == [5, 6, 7] and body["stop_token_ids"] == [1]
    shaped = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
    assert body.items() >= shaped.items() and body["return_token_ids"] is True and body["logprobs"] == 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"token_ids": None}, "returns no token ids: nothing"),
        ({"logprobs": None}, "returns no log-probabilities: nothing"),
        ({"logprobs": {"tokens": ["a"]}}, "returns no log-probabilities: nothing"),
        ({"token_ids": None, "logprobs": None}, "no token ids and no log-probabilities: nothing"),
        ({"prompt_token_ids": [0, 5, 6, 7]}, "read other ids than it was given"),
        ({"finish_reason": "stop"}, "ended at a token that the request does not name"),
    ],
)
def test_an_endpoint_without_exact_tokens_cannot_be_used(changes: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        ask(said(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"token_ids": []},
        {"token_ids": "89"},
        {"token_ids": [8]},
        {"token_ids": [8, -9]},
        {"token_ids": [8, 9.0]},
        {"token_ids": [8, True]},
        {"logprobs": {"token_logprobs": [-0.5, None]}},
        {"logprobs": {"token_logprobs": [-0.5, 0.5]}},
        {"logprobs": {"token_logprobs": [-0.5, float("nan")]}},
        {"logprobs": {"token_logprobs": [float("-inf"), -1.0]}},
        {"logprobs": {"token_logprobs": [-9999.0, -1.0]}},
        {"finish_reason": "abort"},
        {"token_ids": [8], "logprobs": {"token_logprobs": [-0.5]}},
    ],
)
def test_garbage_is_a_failure(changes: Any) -> None:
    with pytest.raises(AgentError):
        ask(said(**changes))


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (replace(ONE, temperature=0.7), "processed=True"),
        (replace(ONE, top_p=0.9), "processed=True"),
        (replace(ONE, top_k=5), "processed=True"),
        (replace(ONE, images=(Image(b""),)), "no images"),
        (replace(ONE, ids=()), "wants ids"),
        (replace(ONE, max_tokens=0), "wants ids"),
    ],
)
def test_what_would_not_be_exact_is_refused_before_it_is_asked(request_: Request, why: str) -> None:
    sampler = HttpSampler(Endpoint("http://127.0.0.1:1/v1", retry=Retry(1)), "m")
    with pytest.raises(UsageError, match=why):
        asyncio.run(sampler(request_))


def test_a_temperature_that_vllm_would_raise_is_refused() -> None:
    with pytest.raises(UsageError, match="temperature of 0.01 where 0.009 is"):
        ask(said(), replace(ONE, temperature=0.009), processed=True)
    assert ask(said(), replace(ONE, temperature=0.01), processed=True)[1].saw[0].body["temperature"] == 0.01


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional={k: JSON for k in ("token_ids", "logprobs", "finish_reason")}))
def test_no_answer_breaks_the_sampler(found: dict[str, Any]) -> None:
    """Whatever a choice holds, it is a sample, a failure or an endpoint that cannot be used."""
    sampler = HttpSampler(Endpoint("http://127.0.0.1:1/v1"), "m")
    try:
        sample = sampler._sample(ONE, found)
    except (UsageError, AgentError):
        return
    assert len(sample.tokens) == len(sample.logps) == len(sample.versions) <= 2
