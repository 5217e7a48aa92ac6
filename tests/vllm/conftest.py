"""These tests need a real vLLM: ``make test-vllm`` names its Python; without one they are not collected."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from turngym.agents.tiny import model as shape
from turngym.trainers.servers import PYTHON, Process, wait

collect_ignore_glob = [] if os.environ.get(PYTHON) else ["test_*.py"]

SIZE, STOP = 40, 1
STARTING = 300.0  # seconds


def network(seed: int) -> shape.Qwen3ForCausalLM:
    """Untied, head_dim 32: what vLLM's CPU attention can do."""
    return shape.build(SIZE, pad=0, end=STOP, seed=seed, layers=2, width=32, heads=2).eval()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``network(0)``, with a tokenizer that nobody uses."""
    from transformers import AutoTokenizer

    from turngym.agents.tiny import BASE

    folder = tmp_path_factory.mktemp("model")
    network(0).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def servers(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Two of them."""
    logs = tmp_path_factory.mktemp("logs")
    started = [Process(str(model), logs / f"server-{n}.log") for n in range(2)]
    try:
        for server in started:
            server.start()
        wait(started, STARTING)
        yield started
    finally:
        for server in started:
            server.stop()
