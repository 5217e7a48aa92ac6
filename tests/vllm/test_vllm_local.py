"""The sampler in process: the checks run in the Python that has vLLM, and so does the example of docs/vllm.md."""

import os
import re
import subprocess
from pathlib import Path

from turngym.agents.tiny import BASE
from turngym.trainers.servers import PYTHON

ROOT = Path(__file__).parents[2]
CHECKS = """
    models; the process as it was; ids; log-probs at 1.0; log-probs at 0.7; log-probs at 0.0; reasons; company;
    cancelling; new weights; suite's swaps; swaps in flight; refusals; probe; a broken update;
    bfloat16, after another; close
"""


def said(*words: str | Path) -> str:
    """What a program of the other Python prints; its packages are these sources."""
    added = {"PYTHONPATH": str(ROOT / ".typing"), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [os.environ[PYTHON], *words], env=os.environ | added | quiet, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_suite_and_what_may_go_wrong() -> None:
    lines = [line for line in said(ROOT / "tests" / "vllm" / "local_checks.py").splitlines() if line[:3] == "ok "]
    wanted = [f"ok {name.strip()}" for name in CHECKS.replace("\n", " ").split(";")]
    assert len(lines) == len(wanted), lines
    assert all(line.startswith(name) for line, name in zip(lines, wanted, strict=True)), lines
    print("\n".join(lines))


def test_the_example_of_the_page() -> None:
    found = re.search(r"^```py\n(.*?)^```$", (ROOT / "docs" / "vllm.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found
    assert re.search(r"^1 \[\d+(, \d+){7}\]$", said("-c", found[1].replace("FOLDER", str(BASE))), re.MULTILINE)
