"""What the demonstration is compared with: RL without a warm-up, and cloning alone with ten times as much."""

import json
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import demo
from .evaluate import Evaluation, evaluate
from .files import write_text
from .machine import machine
from .report import table
from .run import train


def _help(text: str) -> Any:
    return {"help": text}


@dataclass(frozen=True, kw_only=True)
class Controls:
    """The control runs."""

    out: str = field(default="runs/controls", metadata=_help("folder of the runs"))
    seed: int = field(default=0, metadata=_help("root of all randomness"))


def controls(settings: Controls) -> Path:
    """Trains and measures both controls as the demonstration is measured; returns the file with the figures."""
    start, out = time.monotonic(), Path(settings.out)
    run = demo.plan(demo.Demo(seed=settings.seed))
    runs = {
        "zero": replace(run, demonstrations=0),
        "clone": replace(run, demonstrations=10 * run.demonstrations, steps=0),
    }
    reports = {}
    for name, control in runs.items():
        print(f"{demo.CONTROLS[name]} …", flush=True)
        trained = train(replace(control, out=str(out / name)))
        asked = Evaluation(agent=trained.folder, engine="parser", episodes=200, level=run.levels, seed=run.seed)
        reports[name] = evaluate(asked)
    print(table({demo.CONTROLS[name]: report for name, report in reports.items()}))
    figures: dict[str, Any] = {name: report.to_json() for name, report in reports.items()}
    figures |= {"date": datetime.now(UTC).date().isoformat(), "seconds": round(time.monotonic() - start, 1)}
    file = out / "controls.json"
    write_text(file, json.dumps(figures | {"seed": run.seed, "machine": machine()}, indent=2) + "\n")
    return file
