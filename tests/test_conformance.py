"""Every sampler against the one suite; what the suite is for is shown by samplers that break it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from turngym.agents import Request, Sample
from turngym.agents.samplers import ScriptedSampler, TorchSampler
from turngym.agents.samplers import conformance as suite
from turngym.agents.tiny import model as shape

SIZE, STOP, EXACT = 40, 1, 1e-5


@dataclass
class Case:
    """A sampler, and the trainer's own view of the same weights."""

    sampler: Any
    model: Any
    weights: dict[int, dict[str, torch.Tensor]]

    def trained(self, request: Request, sample: Sample, version: int) -> list[float]:
        own = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.weights[version])
        logps = suite.learner_logps(self.model, request, sample)
        self.model.load_state_dict(own)
        return logps

    def later(self) -> list[tuple[int, dict[str, torch.Tensor]]]:
        return [(v, tensors) for v, tensors in self.weights.items() if v]


class Bigram(torch.nn.Module):
    """The script of the scripted sampler, as a model: logits by the last token."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(SIZE, SIZE))

    def forward(self, input_ids: torch.Tensor) -> Any:
        return type("Out", (), {"logits": self.table[input_ids]})


def network(seed: int) -> Any:
    return shape.build(SIZE, pad=0, end=STOP, seed=seed, layers=2, width=32, heads=2).eval()


def seeded(make: Callable[[], Any], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def gpt2(seed: int) -> Any:
    config = GPT2Config(vocab_size=SIZE, n_positions=96, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5)
    config.bos_token_id = config.eos_token_id = STOP
    return seeded(lambda: GPT2LMHeadModel(config), seed)


SMALL: dict[str, Any] = dict(
    vocab_size=SIZE, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, initializer_range=0.3, pad_token_id=0, bos_token_id=None, eos_token_id=STOP,
)  # fmt: skip


def llama(seed: int) -> Any:
    return seeded(lambda: LlamaForCausalLM(LlamaConfig(**SMALL)), seed)


def mistral(seed: int) -> Any:
    return seeded(lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=4)), seed)


def bigram(seed: int) -> Any:
    model = Bigram()
    with torch.no_grad():
        model.table.copy_(torch.from_numpy(np.random.default_rng(seed).normal(size=(SIZE, SIZE))))
    return model


MODELS: dict[str, Callable[[int], Any]] = {"qwen3": network, "gpt2": gpt2, "llama": llama, "mistral": mistral}


def case(name: str) -> Case:
    kind, _, how = name.partition(" ")
    made = MODELS.get(kind, bigram)
    weights = {v: made(v).state_dict() for v in range(4)}
    if kind == "scripted":
        sampler: Any = ScriptedSampler(lambda ids, held: held["table"][ids[-1]], seconds=1e-4)
        sampler.publish(weights[0].items(), 0)
    else:
        rows = 3 if how == "crowded" else 16
        sampler = TorchSampler(made(0), rows=rows, together=how == "together")
    return Case(sampler, made(0), weights)


CASES = ("qwen3 together", "qwen3 continuous", "qwen3 crowded", "gpt2 continuous", "llama continuous",
         "mistral continuous", "scripted")  # fmt: skip


@pytest.fixture(params=CASES)
def tried(request: pytest.FixtureRequest) -> Iterator[Case]:
    tried = case(request.param)
    yield tried
    if isinstance(tried.sampler, TorchSampler):
        tried.sampler.close()


def requests(count: int = 9, **options: Any) -> list[Request]:
    """Prompts of many lengths; some share their beginnings, and three are equal."""
    rng = np.random.default_rng(0)
    stem = rng.integers(2, SIZE, 12).tolist()
    ids = [tuple(stem[: i % 5 * 3] + rng.integers(2, SIZE, rng.integers(1, 12)).tolist()) for i in range(count)]
    ids[1] = ids[4] = ids[0]
    asked = [Request(i, max_tokens=8, stop=(STOP, 2, 3), seed=(5, n), session=str(n)) for n, i in enumerate(ids)]
    return [replace(r, **options) for r in asked]


def run(check: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(check, 120))


def test_ids_round_trip(tried: Case) -> None:
    run(suite.ids_round_trip(tried.sampler, requests(), SIZE))


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_log_probs(tried: Case, temperature: float) -> None:
    asked = requests(temperature=temperature)
    run(suite.log_probs_are_the_trainers(tried.sampler, asked, tried.trained, EXACT))


def test_reasons(tried: Case) -> None:
    run(suite.reasons_are_true(tried.sampler, requests(20)))


def test_company(tried: Case) -> None:
    run(suite.company_changes_nothing(tried.sampler, requests(), EXACT))


def test_cancelling(tried: Case) -> None:
    run(suite.cancelling_harms_nobody(tried.sampler, requests(), EXACT))


def test_new_weights(tried: Case) -> None:
    run(suite.new_weights_are_used(tried.sampler, requests(), tried.later(), tried.trained, EXACT))


def test_swaps_in_flight(tried: Case) -> None:
    asked = requests(max_tokens=40)
    run(suite.swaps_in_flight_are_told(tried.sampler, asked, tried.later(), tried.trained, EXACT))


def test_bf16_is_near() -> None:
    """Each side rounds differently, with and without a cache; the trainer's own view is of the same bf16 weights."""
    model = network(0).to(torch.bfloat16)
    half = TorchSampler(network(0).to(torch.bfloat16), together=False)
    tried = Case(half, model, {0: model.state_dict()})
    asked = [replace(r, stop=(), max_tokens=30) for r in requests()]
    worst = run(suite.log_probs_are_the_trainers(half, asked, tried.trained, 2e-2))
    assert worst > EXACT
    half.close()


class Liar:
    """Answers as ``inner`` does, but for one lie."""

    def __init__(self, inner: Any, lie: Callable[[Request, Sample], Sample]) -> None:
        self.inner, self.lie = inner, lie

    async def __call__(self, request: Request) -> Sample:
        return self.lie(request, await self.inner(request))

    def publish(self, tensors: Any, version: int) -> None:
        pass  # the old weights go on


def hotter(request: Request, sample: Sample) -> Sample:
    return replace(sample, logps=tuple(x * 1.01 - 1e-4 for x in sample.logps))


def relabelled(request: Request, sample: Sample) -> Sample:
    return replace(sample, versions=(1,) * len(sample.tokens))


Check = Callable[[Any, Case], Coroutine[Any, Any, Any]]
LIES: dict[str, tuple[Callable[[Request, Sample], Sample], Check]] = {
    "sizes": (lambda r, s: replace(s, logps=s.logps[1:]), lambda x, c: suite.ids_round_trip(x, requests(), SIZE)),
    "range": (
        lambda r, s: replace(s, tokens=(SIZE,) * len(s.tokens)),
        lambda x, c: suite.ids_round_trip(x, requests(), SIZE),
    ),
    "logps": (hotter, lambda x, c: suite.log_probs_are_the_trainers(x, requests(), c.trained, EXACT)),
    "reason": (lambda r, s: replace(s, finish="stop"), lambda x, c: suite.reasons_are_true(x, requests(20))),
    "stale": (
        relabelled,
        lambda x, c: suite.new_weights_are_used(x, requests(), c.later()[:1], c.trained, EXACT),
    ),
    "order": (
        lambda r, s: replace(s, versions=(1, *s.versions[1:])),
        lambda x, c: suite.swaps_in_flight_are_told(x, requests(), c.later()[:1], c.trained, EXACT),
    ),
}


@pytest.mark.parametrize(("lie", "check"), LIES.values(), ids=LIES)
def test_the_suite_finds_lies(lie: Callable[[Request, Sample], Sample], check: Check) -> None:
    tried = case("scripted")
    with pytest.raises(AssertionError):
        run(check(Liar(tried.sampler, lie), tried))


def test_the_suite_finds_company_that_matters() -> None:
    tried, busy = case("scripted"), 0

    class Crowded:
        async def __call__(self, request: Request) -> Sample:
            nonlocal busy
            busy += 1
            sample = await tried.sampler(request)
            await asyncio.sleep(0.01)
            busy -= 1
            return hotter(request, sample) if busy else sample

    with pytest.raises(AssertionError, match="in company"):
        run(suite.company_changes_nothing(Crowded(), requests(), EXACT))


def test_the_suite_finds_a_sampler_that_cannot_be_cancelled() -> None:
    tried = case("scripted")

    class Deaf:
        async def __call__(self, request: Request) -> Sample:
            try:
                return await tried.sampler(request)
            except asyncio.CancelledError:
                return Sample((), (), (), "cancelled")

    with pytest.raises(AssertionError, match="was answered"):
        run(suite.cancelling_harms_nobody(Deaf(), requests(), EXACT))
