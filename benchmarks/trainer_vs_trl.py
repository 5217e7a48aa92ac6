"""Whole multi-turn GRPO steps beside TRL 1.16.0: the same world, policy, prompts, precision and loss.

    python benchmarks/trainer_vs_trl.py FOLDER --trl PYTHON [--rounds 5] [--steps 8] [--threads 1]

FOLDER holds the policy and PYTHON is that of an environment with TRL; both are made by

    python benchmarks/peers/keypad/policy.py runs/keypad/base
    PYTHONPATH=benchmarks/peers/keypad turngym train webagent_r1 --env gym_keypad:Keypad-v0 --model runs/keypad/base \
        --demonstrations 400 --clone-epochs 6 --clone-lr 2e-3 --validation 64 --steps 0 --browser-every 0 \
        --out runs/keypad/policy
    python -m venv runs/keypad/trl && runs/keypad/trl/bin/pip install torch==2.13.0 trl==1.16.0

A step is 4 groups of 8 episodes in fp32: play, advantages, one update. ``spread`` adds a little chance to each reward,
so that every group has spread and both learn from every row; ``skipping`` has the reward as it is, and turngym leaves
out the groups whose rewards are equal. Rounds alternate, the first two steps of a run are not counted, and a run's
figure is the median of the others. Prints one JSON line: episodes a second, and the ratios with minimum and maximum.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any

from turngym.trainers.machine import machine

KEYPAD = Path(__file__).parent / "peers" / "keypad"
GROUPS, SIZE, WARM = 4, 8, 2
Figures = dict[str, dict[str, list[float]]]  # by kind, then by side


def run(python: str, script: str, model: str, steps: int, *words: str) -> list[dict[str, Any]]:
    """The lines of one run's steps, those of warming up left out."""
    path = {"PYTHONPATH": str(KEYPAD), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as aside:
        command = [python, str(KEYPAD / script), str(Path(model).resolve()), "--steps", str(steps), *words]
        command += ["--groups", str(GROUPS), "--size", str(SIZE), "--out", f"{aside}/out"]
        done = subprocess.run(command, env=os.environ | path, cwd=aside, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")][WARM:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--trl", required=True, help="the Python of an environment with TRL")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=32, help="TRL's rows a pass")
    args = parser.parse_args()
    threads = ["--threads", str(args.threads)]
    kinds = {"spread": (["--noise", "0.01"], ["--noise"]), "skipping": ([], [])}  # what each side is told
    speed, share, reward = ({kind: {"trl": [], "ours": []} for kind in kinds} for _ in range(3))
    for number in range(args.rounds):
        for kind, (theirs, ours) in kinds.items():
            rows = ["--rows", str(args.rows), *theirs]
            found = {
                "trl": run(args.trl, "steps_trl.py", args.model, args.steps, *threads, *rows),
                "ours": run(sys.executable, "steps_ours.py", args.model, args.steps, *threads, *ours),
            }
            for who, steps in found.items():
                speed[kind][who].append(GROUPS * SIZE / median(step["seconds"] for step in steps))
                share[kind][who].append(fmean(step["spread"] for step in steps))
                reward[kind][who].append(fmean(step["reward"] for step in steps))
            said = ", ".join(f"{who} {values[-1]:.1f}" for who, values in speed[kind].items())
            print(f"round {number + 1}, {kind}: {said} episodes/s", file=sys.stderr)
    print(json.dumps({
        "benchmark": "trainer_vs_trl",
        "ratio": {kind: spread([b / a for a, b in zip(s["trl"], s["ours"], strict=True)]) for kind, s in speed.items()},
        "episodes_per_second": each(speed, spread),
        "share_of_groups_with_spread": each(share, mean),
        "reward": each(reward, mean),
        "threads": args.threads, "rounds": args.rounds, "steps": args.steps - WARM, "rows_of_trl": args.rows,
        "machine": machine(),
    }))  # fmt: skip


def each(values: Figures, tell: Callable[[list[float]], Any]) -> dict[str, dict[str, Any]]:
    return {kind: {who: tell(x) for who, x in sides.items()} for kind, sides in values.items()}


def mean(values: list[float]) -> float:
    return round(fmean(values), 3)


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


if __name__ == "__main__":
    main()
