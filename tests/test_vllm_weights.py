"""Weights reach servers in the right order, whole or not at all, and are proved; on stand-ins of vLLM's words."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from stand_in import SIZE, StandIn, serving

from turngym.agents import Request
from turngym.agents.samplers.transfer import EngineTransfer
from turngym.agents.samplers.vllm import VllmSampler
from turngym.agents.samplers.vllm_weights import Disagreement, Probe, VllmWeights, next_token, probes, tied
from turngym.agents.tiny import model as shape
from turngym.envs import AgentError, UsageError


def tensors(seed: int) -> dict[str, torch.Tensor]:
    return {"table": torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed))}


@pytest.fixture
def two() -> Iterator[tuple[StandIn, StandIn]]:
    servers = StandIn(), StandIn()
    with serving(*servers):
        yield servers


@pytest.fixture
def giver(two: tuple[StandIn, StandIn], tmp_path: Path) -> Iterator[VllmWeights]:
    giver = VllmWeights([server.url for server in two], folder=tmp_path / "weights", timeout=5.0)
    yield giver
    giver.close()


def test_the_steps_of_an_update(two: tuple[StandIn, StandIn], giver: VllmWeights) -> None:
    giver.publish(tensors(1).items(), 1)
    swap = ["/pause", "/update_weight_version", "/start_weight_update", "/update_weights", "/finish_weight_update",
            "/reset_prefix_cache", "/resume"]  # fmt: skip
    assert two[0].log == two[1].log == [swap[0], "/init_weight_transfer_engine", *swap[1:]]
    giver.publish(tensors(2).items(), 2)
    for server in two:
        assert server.log[len(swap) + 1 :] == swap
        assert server.version == "2" and torch.equal(server.table, tensors(2)["table"])
    assert [path.name for path in giver._shelf.folder.iterdir()] == ["weights-2.safetensors"]
    giver.close()
    assert list(giver._shelf.folder.iterdir()) == []


def test_a_sampler_publishes_while_its_loop_runs(two: tuple[StandIn, StandIn], giver: VllmWeights) -> None:
    async def check() -> tuple[int, ...]:
        sampler = VllmSampler([server.url for server in two], initial=None, weights=giver)
        sampler.publish(tensors(3).items(), 3)
        assert sampler.version == 3
        sample = await sampler(Request((1,), 4))
        await sampler.shut()
        return sample.versions

    assert asyncio.run(check()) == (3,) * 4


def test_a_server_that_is_out_is_healed_when_it_is_back(
    two: tuple[StandIn, StandIn], giver: VllmWeights, caplog: pytest.LogCaptureFixture
) -> None:
    giver.publish(tensors(0).items(), 0)
    two[0].how = "busy"
    with caplog.at_level(logging.WARNING, "turngym"):
        giver.publish(tensors(1).items(), 1)
        assert giver.live == (1,) and "did not take version 1" in caplog.text
        assert not giver.heal() and giver.live == (1,)
        two[0].how = ""
        assert giver.heal() and giver.live == (0, 1) and "has been given version 1" in caplog.text
    assert two[0].version == "1" and torch.equal(two[0].table, tensors(1)["table"])
    two[1].version = "default"  # it was started again
    assert giver.heal() and two[1].version == "1"
    assert not giver.heal()


def test_a_server_that_goes_away_is_live_no_more(two: tuple[StandIn, StandIn], giver: VllmWeights) -> None:
    assert not giver.heal()  # nothing was published: nothing to give
    giver.publish(tensors(0).items(), 0)
    two[1].how = "busy"
    assert giver.heal() and giver.live == (0,)


def test_half_written_weights_wait_for_another_process(two: tuple[StandIn, StandIn], giver: VllmWeights) -> None:
    giver.publish(tensors(0).items(), 0)
    giver.publish({"other": torch.zeros(1)}.items(), 1)
    assert giver.live == () and giver.torn == [True, True] and two[0].version == "torn"
    assert two[0].log[-1] == "/pause", "it goes on to play"
    asked = len(two[0].log)
    giver.publish(tensors(2).items(), 2)
    assert giver.live == () and not giver.heal()
    assert set(two[0].log[asked:]) == {"/weight_info"}
    two[0].version = "default"
    assert giver.heal() and giver.live == (0,) and two[0].version == "2" and giver.torn == [False, True]


def test_a_number_that_comes_again_is_no_proof_of_the_weights(two: tuple[StandIn, StandIn], giver: VllmWeights) -> None:
    giver.publish(tensors(1).items(), 1)
    two[0].how = "busy"
    giver.publish(tensors(2).items(), 1)
    two[0].how = ""
    assert giver.live == (1,) and two[0].version == "1"
    assert giver.heal() and giver.live == (0, 1) and torch.equal(two[0].table, tensors(2)["table"])


def test_who_has_the_weights_is_told_before_anybody_else_changes_them(
    two: tuple[StandIn, StandIn], giver: VllmWeights
) -> None:
    told: list[tuple[int, tuple[int, ...], bool]] = []
    giver.tell = lambda version, live: told.append((version, live, giver._lock.locked()))
    giver.publish(tensors(1).items(), 1)
    two[0].version = "default"
    assert giver.heal() and not giver.heal()
    assert told == [(1, (0, 1), True), (1, (1,), True), (1, (0, 1), True)]


def test_first_weights_that_reach_nobody_are_an_error(two: tuple[StandIn, StandIn], giver: VllmWeights) -> None:
    for server in two:
        server.how = "busy"
    with pytest.raises(AgentError, match=r"no server took the run's first weights.*503.*503"):
        giver.publish(tensors(0).items(), 0)


def probed(two: tuple[StandIn, StandIn], folder: Path, error: float) -> VllmWeights:
    """Compares with a trainer whose log-probs are ``error`` away."""

    def trained(request: Request) -> torch.Tensor:
        return (tensors(1)["table"][request.ids[-1]] / request.temperature).log_softmax(-1) + error

    probe = Probe(probes(SIZE), trained, 1e-3)
    return VllmWeights([server.url for server in two], folder=folder, probe=probe, timeout=5.0)


def test_the_probe_refuses_to_go_on(two: tuple[StandIn, StandIn], tmp_path: Path) -> None:
    for error in (0.0, 9e-4, 2e-3):
        giver = probed(two, tmp_path, error)
        if error > 1e-3:
            with pytest.raises(Disagreement, match=rf"{two[0].url}.*version 1.*by 0\.002, allowed 0\.001"):
                giver.publish(tensors(1).items(), 1)
        else:
            giver.publish(tensors(1).items(), 1)
        giver.close()
    giver = probed(two, tmp_path, 0.0)
    with pytest.raises(Disagreement):
        giver.publish(tensors(2).items(), 2)
    giver.close()


def test_the_probe_bounds_the_mean_too(two: tuple[StandIn, StandIn], tmp_path: Path) -> None:
    giver = probed(two, tmp_path, 0.04)
    giver.probe = replace(giver.probe, tolerance=0.5, mean=0.05)  # type: ignore[type-var]
    giver.publish(tensors(1).items(), 1)
    giver.probe = replace(giver.probe, mean=0.03)  # type: ignore[type-var]
    with pytest.raises(Disagreement, match=r"in the mean they differ by 0\.04, allowed 0\.03"):
        giver.publish(tensors(1).items(), 2)
    giver.close()


def test_the_probe_finds_a_server_that_says_no_number(two: tuple[StandIn, StandIn], tmp_path: Path) -> None:
    giver = probed(two, tmp_path, 0.0)
    two[0].how = "nan"
    giver.publish(tensors(1).items(), 1)
    assert giver.live == (1,)
    giver.close()


def test_the_trainers_view_is_the_models() -> None:
    model = shape.build(SIZE, pad=0, end=1, seed=0, layers=1, width=32, heads=1).train()
    request = probes(SIZE)[3]
    logits = model.eval()(input_ids=torch.tensor([request.ids])).logits[0, -1]
    model.train()
    assert torch.equal(next_token(model)(request), (logits / 0.8).log_softmax(-1)) and model.training
    assert {len(r.ids) for r in probes(SIZE)} == {1 + n * 31 // 7 for n in range(8)}


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no transfer 'post'; there are file, nccl, ipc"):
        VllmWeights(["http://127.0.0.1:1"], folder=tmp_path, backend="post")
    with pytest.raises(UsageError, match="ties its embeddings"):
        tied(SimpleNamespace(tie_word_embeddings=True))
    tied(SimpleNamespace(tie_word_embeddings=False))
    giver = VllmWeights(["http://127.0.0.1:1"], folder=tmp_path)
    with pytest.raises(UsageError, match="by nccl from a GPU, not from cpu"):
        EngineTransfer(giver.controls[0], "nccl", {}, torch.device("cpu"))
    (tmp_path / "file").write_text("")
    giver._shelf.folder = tmp_path / "file"
    with pytest.raises(UsageError, match="cannot write weights"):
        giver.publish(tensors(0).items(), 0)
    giver._shelf.folder = tmp_path / "taken"
    (tmp_path / "taken" / "weights-0.new").mkdir(parents=True)  # safetensors has an error of its own, as for full disks
    with pytest.raises(UsageError, match="cannot write weights"):
        giver.publish(tensors(0).items(), 0)
    (tmp_path / "taken" / "weights-0.new").rmdir()
    giver.close()


@pytest.mark.parametrize("broken", ["trainer_init", "send_weights"])
def test_an_engine_of_vllm_that_fails_leaves_a_server_out(
    two: tuple[StandIn, StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """What stands for vLLM's engines here fails as NCCL does: there is no GPU."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("NCCL error: unhandled system error")

    engine = SimpleNamespace(send_weights=fails)
    init = fails if broken == "trainer_init" else lambda *_, **__: engine
    package = "vllm.distributed.weight_transfer"
    modules = {
        f"{package}.base": SimpleNamespace(WeightSource=object),
        f"{package}.factory": SimpleNamespace(WeightTransferTrainerFactory=SimpleNamespace(trainer_init=init)),
        f"{package}.ipc_engine": SimpleNamespace(IPCTrainerInitInfo=SimpleNamespace),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    giver = VllmWeights([server.url for server in two], folder=tmp_path, backend="ipc", device="cuda")
    with pytest.raises(AgentError, match=r"no server took .*engine for ipc has failed: RuntimeError: NCCL error"):
        giver.publish(tensors(0).items(), 0)
    assert giver.live == () and giver.torn == [broken == "send_weights"] * 2
    giver.close()
