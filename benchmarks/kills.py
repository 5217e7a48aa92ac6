"""A training run killed (-9) at many random moments and resumed each time, against the same run left alone.

    python benchmarks/kills.py [--kills 50] [--seed 0]

Prints one JSON line: ``exact_resumes`` is the number of kills after which the resumed run still equalled the whole one,
checkpoint by checkpoint, and ``equal`` whether the final weights, log and stored episodes are the same, bit for bit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from turngym.trainers import checkpoint
from turngym.trainers.checkpoint import Shelf
from turngym.trainers.log import rows
from turngym.trainers.machine import machine
from turngym.trainers.models import load

ARGUMENTS = (
    "--env turngym/WebShop-v0 --levels 1 --demonstrations 20 --clone-epochs 2 --validation 10 --steps {steps}"
    " --groups 3 --size 4 --workers 1 --threads 1 --checkpoint-every 1 --browser-every 0 --keep 1000 --engine parser"
).split()
COMMAND = [sys.executable, "-c", "import sys; from turngym.trainers.cli import main; sys.exit(main())", "train"]


def start(out: Path, steps: int) -> "subprocess.Popen[bytes]":
    again = ["--resume", str(out)] if (out / "run.json").exists() else None
    words = again or ["webagent_r1", *(a.format(steps=steps) for a in ARGUMENTS), "--out", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(COMMAND + words, **quiet)  # type: ignore[call-overload, no-any-return]


def facts(out: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows(out)]


def same_state(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two checkpoints hold the same weights, optimiser, curriculum and counters."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(
            same_state(one[k], other[k]) for k in one if "seconds" not in str(k) and k not in ("settings", "out")
        )
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_state, one, other))
    return bool(one == other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args()
    rng, begun = random.Random(o.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        assert start(whole, o.steps).wait() == 0, "the run itself fails"
        kills, exact, longest = 0, 0, 8.0
        while kills < o.kills:
            process = start(broken, o.steps)
            time.sleep(rng.uniform(0, longest))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                exact += agrees(broken, whole)
                print(f"\r{kills} kills, {exact} exact", end="", file=sys.stderr, flush=True)
            elif process.returncode:
                sys.exit(f"a resumed run failed with {process.returncode}")
        assert start(broken, o.steps).wait() == 0, "the last resume fails"
        weights = [load(str(out))[0].state_dict() for out in (whole, broken)]
        episodes = [{f.name: f.read_bytes() for f in (out / "episodes").iterdir()} for out in (whole, broken)]
        equal = all(torch.equal(weights[0][k], v) for k, v in weights[1].items())
        equal = equal and facts(whole) == facts(broken) and episodes[0] == episodes[1]
    figures = {"exact_resumes": exact, "kills": kills, "equal": equal, "steps": o.steps}
    print(json.dumps(figures | {"seconds": round(time.monotonic() - begun, 1), "machine": machine()}))


def agrees(broken: Path, whole: Path) -> bool:
    """Whether every checkpoint that the broken run holds equals that of the whole one."""
    for file in Shelf(broken).files():
        if not same_state(checkpoint.load(file), checkpoint.load(Shelf(whole).folder / file.name)):
            return False
    return True


if __name__ == "__main__":
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    main()
