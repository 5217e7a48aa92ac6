"""A run's vLLM servers: what is asked for is checked, processes that die say why, servers that come back are healed."""

import logging
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import alive, wait
from stand_in import SIZE, StandIn, serving

from turngym.agents.tiny import model as shape
from turngym.envs import Failure, MissingExtra, TurngymError, UsageError
from turngym.trainers import engines, servers
from turngym.trainers.player import Setting
from turngym.trainers.recipes import webagent_r1
from turngym.trainers.settings import Run, check, exact, notes
from turngym.trainers.workers import Workers

RUN: Run = replace(webagent_r1(), sampler="vllm")


def test_what_makes_no_sense_is_refused() -> None:
    check(RUN)
    for change, why in (
        ({"sampler": "torch", "servers": ("http://127.0.0.1:1",)}, "servers are vLLM's"),
        ({"sampler": "torch", "server_seconds": 5.0}, "server_seconds are those of vLLM's"),
        ({"server_seconds": 0.0}, "server_seconds must be above 0"),
        ({"transfer": "nccl"}, "from a GPU to vLLM"),
        ({"sampler": "torch", "transfer": "ipc"}, "from a GPU to vLLM"),
    ):
        with pytest.raises(UsageError, match=why):
            check(replace(RUN, **change))  # type: ignore[arg-type]


def test_exactness_is_given_up_in_the_open() -> None:
    assert not exact(RUN) and exact(replace(RUN, sampler="torch"))
    assert any("exact is off" in note for note in notes(RUN))
    assert not any(
        "exact" in note for run in (replace(RUN, exact=False), replace(RUN, max_lag=1)) for note in notes(run)
    )
    check(replace(RUN, action_seconds=5.0))  # nobody waits for all episodes


def script(folder: Path, text: str) -> str:
    """A program that stands where the Python with vLLM would."""
    file = folder / "python"
    file.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\n{text}\n')
    file.chmod(0o755)
    return str(file)


def test_a_server_that_dies_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(servers.PYTHON, script(tmp_path, "echo no such model; exit 3"))
    model = shape.build(SIZE, pad=0, end=1, seed=0, layers=1, width=32, heads=1)
    with pytest.raises(Failure, match=r"has ended after .*server-0.log ends:\nno such model"):
        with engines.Engines(replace(RUN, out=str(tmp_path / "run")), model):
            pass


def test_a_server_that_does_not_start_in_time_is_ended_with_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"sleep 1000 & echo $! > {tmp_path}/child; echo loading; wait"
    monkeypatch.setenv(servers.PYTHON, script(tmp_path, text))
    process = servers.Process("model", tmp_path / "log")
    process.start()
    wait(lambda: process.said() == "loading")
    assert process.alive and not process.ready
    with pytest.raises(Failure, match="does not answer after"):
        servers.wait([process], 0.0)
    child = int((tmp_path / "child").read_text())
    process.stop()
    wait(lambda: not alive(child))
    assert not process.alive
    process.stop()


def test_a_python_without_vllm_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(servers.PYTHON, raising=False)
    with pytest.raises(MissingExtra, match=r"turngym\[vllm\].*TURNGYM_VLLM_PYTHON"):
        servers.python()
    monkeypatch.setenv(servers.PYTHON, str(tmp_path / "none"))
    with pytest.raises(MissingExtra, match="no Python to run"):
        servers.python()


def test_a_server_names_what_training_needs() -> None:
    words = servers.options("folder", 8000, "float32", "file", True)
    assert words[words.index("--host") + 1] == "127.0.0.1"  # its calls for weights ask for no password
    assert {"processed_logprobs", "--no-enable-chunked-prefill", "--enable-scale-out"} <= set(words)
    assert "--enforce-eager" not in servers.options("folder", 8000, "bfloat16", "nccl", False)
    assert not {"--gpu-memory-utilization", "--max-model-len"} & set(words)
    theirs = servers.options("folder", 8000, "bfloat16", "nccl", False)
    assert theirs[theirs.index("--gpu-memory-utilization") + 1] == "0.45"
    assert "VLLM_ALLOW_INSECURE_SERIALIZATION" not in set(servers.environment("file")) - set(os.environ)
    assert servers.environment("ipc")["VLLM_ALLOW_INSECURE_SERIALIZATION"] == "1"


@pytest.mark.parametrize(
    ("device", "seen", "wanted"),
    [
        ("cuda", None, "0"),
        ("cuda:1", None, "1"),
        ("cuda:1", "5,7", "7"),
        ("cuda", "GPU-ab", "GPU-ab"),
        ("cpu", "3", "3"),
    ],
)
def test_a_server_sees_the_runs_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, device: str, seen: str | None, wanted: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert servers.environment("file", device)["CUDA_VISIBLE_DEVICES"] == wanted


@pytest.mark.parametrize(("positions", "wanted"), [(4096, "4096"), (40960, "32768")])
def test_on_a_cpu_the_context_is_no_longer_than_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, positions: int, wanted: str
) -> None:
    monkeypatch.setenv(servers.PYTHON, script(tmp_path, 'echo "$@"; exit 3'))
    model = shape.build(SIZE, pad=0, end=1, seed=0, layers=1, width=32, heads=1)
    model.config.max_position_embeddings = positions
    with pytest.raises(Failure, match=f"--max-model-len {wanted} "):
        with engines.Engines(replace(RUN, out=str(tmp_path / "run")), model):
            pass


class Bigram(torch.nn.Module):
    """The stand-in's model, as a learner has it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(1)))
        self.config = type("Config", (), {"vocab_size": SIZE, "tie_word_embeddings": False})

    def forward(self, input_ids: torch.Tensor) -> object:
        return type("Out", (), {"logits": self.table[input_ids]})


def test_given_servers_are_kept_in_step_and_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engines, "LOOK", 0.05)
    told: list[tuple[int, tuple[int, ...]]] = []
    two, model = (StandIn(), StandIn()), Bigram()
    with serving(*two) as urls, caplog.at_level(logging.WARNING, "turngym"):
        with engines.Engines(replace(RUN, out=str(tmp_path), servers=tuple(urls)), model) as kept:
            kept.publish(model.state_dict(), 3, lambda version, live: told.append((version, tuple(live))))
            assert told == [(3, (0, 1))]
            two[0].version = "default"  # another process took its place
            wait(lambda: len(told) > 2)
            assert told[1:3] == [(3, (1,)), (3, (0, 1))] and two[0].version == "3", "it plays before its probe"
            two[1].how = "busy"
            wait(lambda: told[-1] == (3, (0,)))
            two[1].how = ""
            wait(lambda: told[-1] == (3, (0, 1)))
    assert "is out" in caplog.text and "has been given version 3" in caplog.text
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_disagreement_found_by_the_watch_stops_the_run_before_more_is_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LOOK", 0.05)
    model, one = Bigram(), StandIn()
    with serving(one) as urls, engines.Engines(replace(RUN, out=str(tmp_path), servers=tuple(urls)), model) as kept:
        kept.publish(model.state_dict(), 1, lambda version, live: None)
        one.how = "raw"
        one.version = "default"
        with Workers(Setting("turngym/WebShop-v0", (("train", ()),), "gold", stall=1000.0), 1, kept) as workers:
            for ask in (workers.hear, lambda: workers.hear(wait=False), lambda: workers.collect(1)):
                with pytest.raises(Failure, match="disagree about version 1"):
                    ask()
        with pytest.raises(Failure, match="disagree about version 1"):
            kept.publish(model.state_dict(), 2, lambda version, live: None)
        assert one.version == "1"


def test_servers_in_bfloat16_are_compared_with_a_model_in_bfloat16(tmp_path: Path) -> None:
    model, one = Bigram(), StandIn()
    with torch.no_grad():
        model.table.add_(300)  # where bfloat16 has even numbers only
    one.how = "bfloat16"
    rounded = replace(RUN, out=str(tmp_path), dtype="bfloat16")
    with serving(one) as urls, engines.Engines(replace(rounded, servers=tuple(urls)), Bigram()) as kept:
        kept.publish(model.state_dict(), 1, lambda version, live: None)
        assert one.version == "1" and one.table.dtype == torch.float32


def test_a_watch_that_fails_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LOOK", 0.05)
    model, one, heard = Bigram(), StandIn(), list[TurngymError]()
    with serving(one) as urls, engines.Engines(replace(RUN, out=str(tmp_path), servers=tuple(urls)), model) as kept:
        assert {control._endpoint._timeout for control in kept._weights.controls} == {RUN.server_seconds}
        kept.alarm = heard.append
        monkeypatch.setenv(servers.PYTHON, script(tmp_path, "exit 3"))
        (tmp_path / "file").write_text("")
        kept._restarts, kept.processes = [0], [servers.Process("model", tmp_path / "file" / "log")]  # no folder
        wait(lambda: bool(heard))
        with pytest.raises(Failure, match="cannot begin: "):
            kept.check()


class Racing(servers.Process):
    """Begins only once somebody has stopped it meanwhile."""

    def __init__(self, folder: Path) -> None:
        super().__init__("model", folder / "log")
        self.begins, self.stopped = threading.Event(), threading.Event()

    def start(self) -> None:
        self.begins.set()
        self.stopped.wait()
        super().start()

    def stop(self) -> None:
        super().stop()
        if self.begins.is_set():
            self.stopped.set()


def test_a_server_that_the_watch_starts_while_it_closes_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LOOK", 0.05)
    monkeypatch.setenv(servers.PYTHON, script(tmp_path, "sleep 1000"))
    process, one = Racing(tmp_path), StandIn()
    with serving(one) as urls:
        with engines.Engines(replace(RUN, out=str(tmp_path), servers=tuple(urls)), Bigram()) as kept:
            kept._restarts, kept.processes = [0], [process]
            assert process.begins.wait(60)
        left = process.alive
        process.stop()
    assert not left and process.log.exists()
