"""Seconds an update of the main job takes at HEAD and at another commit, from the same weights, in turn.

    python benchmarks/commits.py COMMIT [--rounds 3] [--steps 8]

Prints one JSON line: ``speedup`` is the other commit's time over ours, median with minimum and maximum. Rounds
alternate which of the two goes first. The first update of a run, in which workers start, is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from turngym.trainers.machine import machine
from turngym.trainers.run import WARMUP

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "import sys; from turngym.trainers.cli import main; sys.exit(main())", "train"]
MAIN = "webagent_r1 --env turngym/WebSuite-v0 --levels 1,2,3 --demonstrations 200 --browser-every 0".split()


def train(out: Path, root: Path, words: list[str]) -> None:
    """A run of the package whose tree is ``root``, a folder named turngym."""
    env = os.environ | {"PYTHONPATH": str(root.parent), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([*COMMAND, *MAIN, *words, "--out", str(out)], env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"a run of {root} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


def seconds(out: Path) -> float:
    """Mean seconds of an update: all that the log counts."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()][1:]
    return statistics.fmean(sum(v for k, v in row.items() if k.startswith("seconds/")) for row in rows)


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    o = parser.parse_args()
    names = [
        subprocess.run(["git", "rev-parse", "--short", c], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for c in (o.commit, "HEAD")
    ]
    with tempfile.TemporaryDirectory() as folder:
        other, ours, warm = Path(folder) / "turngym", Path(folder) / "ours" / "turngym", Path(folder) / "warm"
        for commit, tree in ((o.commit, other), ("HEAD", ours)):
            tree.mkdir(parents=True)
            archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
            subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)
        train(warm, ours, ["--steps", "1"])
        start = ["--model", str(warm / WARMUP), "--clone-epochs", "0", "--steps", str(o.steps + 1)]
        found: dict[str, list[float]] = {"before": [], "after": []}
        for i in range(o.rounds):
            for name, root in [("before", other), ("after", ours)][:: 1 if i % 2 == 0 else -1]:
                out = Path(folder) / f"{name}{i}"
                train(out, root, start)
                found[name].append(seconds(out))
                print(f"{name}: {found[name][-1]:.2f} s an update", file=sys.stderr, flush=True)
    ratios = [b / a for b, a in zip(found["before"], found["after"], strict=True)]
    figures = {"speedup": spread(ratios), "before_seconds": spread(found["before"])}
    figures |= {"after_seconds": spread(found["after"])}
    commits = dict(zip(("before", "after"), (n.strip() for n in names), strict=True))
    print(json.dumps(figures | {"commits": commits, "rounds": o.rounds, "updates": o.steps, "machine": machine()}))


if __name__ == "__main__":
    main()
