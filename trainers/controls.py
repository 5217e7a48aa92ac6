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
from .options import doc
from .report import table
from .run import SETTINGS, train


@dataclass(frozen=True, kw_only=True)
class Controls:
    """The control runs."""

    out: str = field(default="runs/controls", metadata=doc("folder of the runs"))
    seed: int = field(default=0, metadata=doc("root of all randomness"))


def controls(settings: Controls) -> Path:
    """Trains both controls, going on where an earlier start stopped, and measures them on the demonstration's tasks
    with the parser engine; returns the file with the figures.
    """
    start, out = time.monotonic(), Path(settings.out)
    run = demo.plan(demo.Demo(seed=settings.seed))
    runs = {
        "zero": replace(run, demonstrations=0),
        # half of the epochs is still five times as many steps of cloning, and enough to converge
        "clone": replace(
            run, demonstrations=10 * run.demonstrations, clone_epochs=max(1, run.clone_epochs // 2), steps=0
        ),
    }
    reports = {}
    for name, control in runs.items():
        print(f"{demo.CONTROLS[name]} …", flush=True)
        place = out / name
        trained = train(replace(control, out=str(place)), resume=(place / SETTINGS).is_file())
        asked = Evaluation(agent=trained.folder, engine="parser", episodes=200, levels=run.levels, seed=run.seed)
        reports[name] = evaluate(asked)
    print(table({demo.CONTROLS[name]: report for name, report in reports.items()}))
    figures: dict[str, Any] = {name: report.to_json() for name, report in reports.items()}
    figures |= {"date": datetime.now(UTC).date().isoformat(), "seconds": round(time.monotonic() - start, 1)}
    file = out / "controls.json"
    write_text(file, json.dumps(figures | {"seed": run.seed, "machine": machine()}, indent=2) + "\n")
    return file
