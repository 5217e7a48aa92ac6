"""The benchmark for a GPU runs on a CPU too: nobody has to debug it on a machine by the hour."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import turngym.envs

ROOT = Path(turngym.envs.__file__).resolve().parents[1]


@pytest.mark.parametrize("more", [["--dtype", "float32"], ["--dtype", "bfloat16", "--checkpointing"]], ids=str)
def test_the_benchmark_runs_on_a_cpu(more: list[str]) -> None:
    sizes = ["--size", "tiny", "--rows", "4", "--prompt", "16", "--tokens", "4", "--rounds", "1", "--peak", "0.1"]
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", *sizes, *more]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONSAFEPATH": "1"})
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    for name in ("learner_vs_bare", "rollout_tokens_per_second", "learner_tokens_per_second", "share_of_peak"):
        assert 0 < figures[name]["min"] <= figures[name]["median"] <= figures[name]["max"]
