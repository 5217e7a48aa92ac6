"""What the Python that has vLLM runs: the sampler in its own process against the one suite, in fp32 on a CPU.

Prints "ok NAME" for each check that holds; the first that does not ends it with a traceback.
"""

import asyncio
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turngym.agents import ContextFull, Request, Sample
from turngym.agents.samplers import conformance as suite
from turngym.agents.samplers.vllm_local import VllmLocal
from turngym.agents.samplers.vllm_weights import Disagreement, Probe, next_token, probes
from turngym.agents.tiny import model as shape
from turngym.envs import AgentError, TurngymError, UsageError

SIZE, STOP, EXACT = 40, 1, 1e-5


def network(seed: int) -> shape.Qwen3ForCausalLM:
    return shape.build(SIZE, pad=0, end=STOP, seed=seed, layers=2, width=32, heads=2).eval()


WEIGHTS = {version: dict(network(version).state_dict()) for version in range(4)}
LATER = [(version, tensors) for version, tensors in WEIGHTS.items() if version]


def trained(request: Request, sample: Sample, version: int) -> list[float]:
    model = network(0)
    model.load_state_dict(WEIGHTS[version])
    return suite.learner_logps(model, request, sample)


def requests(count: int = 9, **options: Any) -> list[Request]:
    rng = np.random.default_rng(0)
    stem = rng.integers(2, SIZE, 40).tolist()
    ids = [tuple(stem[: i % 5 * 9] + rng.integers(2, SIZE, rng.integers(1, 12)).tolist()) for i in range(count)]
    ids[1] = ids[4] = ids[0]
    asked = [Request(i, max_tokens=8, stop=(STOP, 2, 3), seed=(5, n), session=str(n)) for n, i in enumerate(ids)]
    return [replace(r, **options) for r in asked]


def ok(name: str, said: object = "") -> None:
    print("ok", name, said, flush=True)


async def refused(kind: type[TurngymError], said: str, doing: Callable[[], Any]) -> None:
    """``doing`` raises ``kind`` with the words ``said``."""
    try:
        found = doing()
        if isinstance(found, Awaitable):
            await found
    except kind as error:
        assert said in str(error), error
    else:
        raise AssertionError(f"nothing raised {said!r}")


async def keeps_the_contract(sampler: VllmLocal) -> None:
    await suite.ids_round_trip(sampler, requests(), SIZE)
    ok("ids")
    for heat in (1.0, 0.7, 0.0):
        worst = await suite.log_probs_are_the_trainers(sampler, requests(temperature=heat), trained, EXACT)
        ok(f"log-probs at {heat}", f"{worst:.2g}")
    await suite.reasons_are_true(sampler, requests(20))
    ok("reasons")
    await suite.company_changes_nothing(sampler, requests(), EXACT)
    ok("company")
    await suite.cancelling_harms_nobody(sampler, requests(), EXACT)
    gone = asyncio.ensure_future(sampler(Request((5,), max_tokens=250)))
    await asyncio.sleep(0.05)
    gone.cancel()
    await sampler(Request((5,), max_tokens=2))
    assert sampler._engine._engine.get_num_unfinished_requests() == 0, "vLLM goes on with what was cancelled"
    ok("cancelling")
    await suite.new_weights_are_used(sampler, requests(), LATER, trained, EXACT)
    assert sampler.version == 3
    ok("new weights")


async def changes_under_way(sampler: VllmLocal) -> None:
    """No token is lost, and each has the log-probability that its version gives."""
    sampler.publish(WEIGHTS[0].items(), 0)
    seen = await suite.swaps_in_flight_are_told(sampler, requests(max_tokens=40), LATER, trained, EXACT)
    ok("suite's swaps", sorted(seen))
    sampler.publish(WEIGHTS[0].items(), 0)
    asked = requests(max_tokens=200, stop=())
    running = [asyncio.ensure_future(sampler(r)) for r in asked]
    for version, tensors in LATER:
        await asyncio.sleep(0.1)
        sampler.publish(tensors.items(), version)
    seen = set()
    for request, sample in zip(asked, await asyncio.gather(*running), strict=True):
        assert len(sample.tokens) == 200 and list(sample.versions) == sorted(sample.versions)
        for version in set(sample.versions):
            pairs = zip(sample.logps, trained(request, sample, version), sample.versions, strict=True)
            assert max(abs(a - b) for a, b, v in pairs if v == version) <= EXACT
        seen |= set(sample.versions)
    assert len(seen) > 1, seen
    ok("swaps in flight", sorted(seen))


async def refuses(sampler: VllmLocal, folder: Path) -> None:
    """Nothing of this harms the sampler."""
    one = Request((5, 6), max_tokens=2)
    await refused(UsageError, "whole distribution", lambda: sampler(replace(one, top_k=5)))
    await refused(UsageError, "not among the model's 40", lambda: sampler(replace(one, ids=(SIZE,))))
    await refused(UsageError, "not among the model's 40", lambda: sampler(replace(one, stop=(-1,))))
    await refused(ContextFull, "beyond the 256", lambda: sampler(replace(one, max_tokens=255)))
    short = {name: tensor for name, tensor in WEIGHTS[1].items() if name != "model.norm.weight"}
    for wrong in (short, WEIGHTS[1] | {"more": torch.zeros(1)}, WEIGHTS[1] | {"model.norm.weight": torch.zeros(3)}):
        await refused(UsageError, "not those of vLLM's model", lambda wrong=wrong: sampler.publish(wrong.items(), 9))
    await refused(UsageError, "close the other", lambda: VllmLocal(folder))
    await suite.log_probs_are_the_trainers(sampler, requests(), trained, EXACT, 3)
    ok("refusals")


async def compares(sampler: VllmLocal) -> None:
    sampler.probe = Probe(probes(SIZE), next_token(network(0)), 1e-4)
    sampler.publish(WEIGHTS[0].items(), 5)
    await refused(Disagreement, "about version 6: a log-probability differs by", lambda: sampler.publish(*other()))
    sampler.probe = None
    ok("probe")


def other() -> tuple[Any, int]:
    return WEIGHTS[1].items(), 6


async def breaks(sampler: VllmLocal) -> None:
    """An update that fails half-way: what the model holds now is played by nobody."""
    running = asyncio.ensure_future(sampler(Request((5,), max_tokens=250)))
    await asyncio.sleep(0.05)
    torn = WEIGHTS[1] | {"model.norm.weight": torch.empty(32, device="meta")}
    await refused(AgentError, "did not take version 7", lambda: sampler.publish(torn.items(), 7))
    await refused(AgentError, "plays no more", lambda: running)
    await refused(AgentError, "plays no more", lambda: sampler(Request((5,))))
    await refused(AgentError, "plays no more", lambda: sampler.publish(WEIGHTS[1].items(), 8))
    ok("a broken update")


async def ends(sampler: VllmLocal) -> None:
    worst = await suite.log_probs_are_the_trainers(sampler, requests(), trained, 2e-2, 1)
    ok("bfloat16, after another", f"{worst:.2g}")
    running = asyncio.ensure_future(sampler(Request((5,), max_tokens=250)))
    await asyncio.sleep(0.01)
    sampler.close()
    sampler.close()
    await refused(AgentError, "is closed", lambda: running)
    await refused(AgentError, "is closed", lambda: sampler(Request((5,))))
    ok("close")


def within(job: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(job, 120))


def main(folder: Path) -> None:
    within(refused(UsageError, "holds no causal LM", lambda: VllmLocal(folder / "nothing")))
    tied = network(0).config
    tied.tie_word_embeddings = True
    tied.save_pretrained(folder / "tied")
    within(refused(UsageError, "ties its embeddings", lambda: VllmLocal(folder / "tied")))
    for version in (0, 1):
        network(version).save_pretrained(folder / str(version))
    within(refused(UsageError, "vLLM does not load", lambda: VllmLocal(folder / "0", longest=4096)))
    within(refused(UsageError, "more than 0 GiB", lambda: VllmLocal(folder / "0", cache=0.0)))
    network(0).config.save_pretrained(folder / "empty")
    within(refused(UsageError, "vLLM does not load", lambda: VllmLocal(folder / "empty", longest=256, cache=0.25)))
    ok("models")
    threads, state, draws = torch.set_num_threads, torch.get_rng_state(), (random.getstate(), np.random.get_state()[1])
    sampler = VllmLocal(folder / "0", longest=256, cache=0.25)
    assert torch.set_num_threads is threads and torch.equal(state, torch.get_rng_state())
    assert draws[0] == random.getstate() and (draws[1] == np.random.get_state()[1]).all()
    ok("the process as it was")
    within(keeps_the_contract(sampler))
    within(changes_under_way(sampler))
    within(refuses(sampler, folder / "0"))
    within(compares(sampler))
    within(breaks(sampler))
    sampler.close()
    within(ends(VllmLocal(folder / "1", dtype="bfloat16", longest=256, cache=0.25, initial=1)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
    sys.exit(0)
