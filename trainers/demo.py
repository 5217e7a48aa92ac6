"""The main job as one command: measure the embedded policy, train it, measure it again in a real browser."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..agents.tiny import BASE
from ..envs import UsageError, extra
from ..envs.web.chromium import find
from . import log as logs
from .evaluate import Evaluation, evaluate, play, world
from .files import write_text
from .machine import machine
from .options import doc
from .plot import Mark, learning_curve
from .recipes import RUNS
from .report import Report, from_json, table
from .rollout import Trajectory
from .run import CHECKPOINT, WARMUP, train
from .settings import Run, scalars
from .view import Episode, Step, write

RESULT, CURVE, PAGE = "result.json", "learning_curve.png", "index.html"
COMMITTED = Path(__file__).parent / "controls.json"  # made by ``turngym controls``
CONTROLS = {"zero": "Zero", "clone": "10x cloning"}
TRAINED = (1, 2, 3)  # levels of the short demonstration


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The demonstration: held-out shops before, after the warm-up and after RL."""

    out: str = field(default="", metadata=doc("folder; none: runs/demo, with --long runs/demo-long"))
    long: bool = field(default=False, metadata=doc("train on all four levels"))
    seed: int = field(default=0, metadata=doc("root of all randomness"))


def plan(settings: Demo) -> Run:
    """The training run of the demonstration."""
    run = replace(RUNS["webagent_r1"](), seed=settings.seed)
    if settings.long:
        return replace(run, out=settings.out or "runs/demo-long", levels=(1, 2, 3, 4), demonstrations=120, steps=200)
    return replace(run, out=settings.out or "runs/demo", levels=TRAINED)


def demo(settings: Demo) -> Path:
    """Runs what is not there yet; returns the folder, with result.json, the agent, a curve and the replays.

    Held-out data all through: products that no training shop sells. Started again after an interruption it goes on
    after the last finished phase, and within RL at the last checkpoint.
    """
    run = plan(settings)
    out = Path(run.out)
    extra("matplotlib", "demo"), find()  # what the end needs is asked for at the start
    _claim(run, out)
    parts = _Parts(out / "parts")
    seen = Evaluation(agent=str(BASE), episodes=100, levels=TRAINED, seed=settings.seed)
    print(f"turngym demo: training on levels {', '.join(map(str, run.levels))}; results in {out}", flush=True)
    start = parts.report("start", replace(seen, engine="parser"))
    trained = parts.get("train", lambda: _train(run, out))
    print(f"training took {trained['warmup_seconds'] + trained['seconds']:.0f} s", flush=True)
    warmup = parts.report("warmup", replace(seen, engine="browser", agent=str(out / WARMUP)))
    last = replace(seen, engine="browser", agent=str(out), levels=run.levels)
    rl = parts.report("rl", replace(last, episodes=200))
    beside = {
        "level 4": parts.report("level4", replace(last, engine="parser", levels=(4,))),
        "unseen templates": parts.report("unseen", replace(last, engine="parser", levels=(), template="unseen")),
    }
    reports = {"start": start, "warmup": warmup, "rl": rl} | beside
    episodes = _replays(replace(last, levels=()))
    write(out / PAGE, "turngym: a trained web agent in Chromium", episodes)
    marks = [Mark("start", start.success), Mark("warm-up", warmup.success), Mark("after RL", rl.success)]
    learning_curve(logs.rows(out), out / CURVE, marks)
    write_text(out / RESULT, json.dumps(result(run, reports, parts.seconds, trained), indent=2) + "\n")
    print(closing(out, reports, {} if settings.long else committed(), parts.seconds))
    return out


def result(
    run: Run, reports: Mapping[str, Report], seconds: Mapping[str, float], trained: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``result.json`` holds: each report, the seconds of each phase, the machine, the settings that matter."""
    phases = {**seconds, "train/warmup": trained["warmup_seconds"], "train/rl": trained["seconds"]}
    return {
        **{name.replace(" ", "_"): report.to_json() for name, report in reports.items()},
        "seconds": {name: round(value, 1) for name, value in phases.items()},
        "machine": machine(),
        "seed": run.seed,
        "date": datetime.now(UTC).date().isoformat(),
    }


def closing(
    out: Path, reports: Mapping[str, Report], beside: Mapping[str, Report], seconds: Mapping[str, float]
) -> str:
    """The last words: a table, with what stands ``beside`` the run's own reports, and what to do next."""
    return "\n".join(
        [
            "",
            "Success on held-out shops, with 95 % intervals:",
            "",
            table({**reports, **beside}),
            "",
            *(_remark() if beside else ()),
            f"{sum(seconds.values()) / 60:.1f} minutes in all.",
            f"Open {out / PAGE} to watch the agent, {out / CURVE} for the learning curve.",
            "",
            "Try next:",
            f"  turngym eval --agent {out} --engine browser --episodes 20 --template unseen",
            f"  turngym eval --agent {out} --episodes 200 --max-turns 5,10,15",
            "  turngym train webagent_r1 --levels 1,2 --steps 20 --out runs/mine",
        ]
    )


def _remark() -> tuple[str, str]:
    """What the controls are, and when they were measured."""
    date = json.loads(COMMITTED.read_text())["date"]
    what = "Zero is RL without a warm-up, 10x cloning is no RL but ten times the demonstrations"
    return f"{what}; both measured on {date}.", ""


def committed() -> dict[str, Report]:
    """The control figures that come with the package, by the name that the table shows."""
    figures = json.loads(COMMITTED.read_text())
    return {label: from_json(figures[name]) for name, label in CONTROLS.items()}


def _claim(run: Run, out: Path) -> None:
    """Marks the folder as this run's; raises UsageError when it holds a demonstration with other settings."""
    file, ours = out / "parts" / "settings.json", json.dumps(scalars(run), indent=2) + "\n"
    if file.is_file() and file.read_text() != ours:
        raise UsageError(f"{out} holds a demonstration with other settings: remove it, or choose another --out")
    write_text(file, ours)


class _Parts:
    """Finished phases as JSON files, so that a second start skips them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds = folder, dict[str, float]()

    def get(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        file = self.folder / f"{name}.json"
        if file.is_file():
            part: dict[str, Any] = json.loads(file.read_text())
        else:
            start = time.monotonic()
            part = {"value": make(), "seconds": time.monotonic() - start}
            write_text(file, json.dumps(part) + "\n")
        self.seconds[name] = part["seconds"]
        value: dict[str, Any] = part["value"]
        return value

    def report(self, name: str, evaluation: Evaluation) -> Report:
        def make() -> dict[str, Any]:
            place = "Chromium" if evaluation.engine == "browser" else "the parser engine"
            print(f"{name}: {evaluation.episodes} episodes in {place} …", flush=True)
            return evaluate(evaluation).to_json()

        found = from_json(self.get(name, make), seconds=0.0)
        found = replace(found, seconds=self.seconds[name])
        print(f"{name}: {found.success}", flush=True)
        return found


def _train(run: Run, out: Path) -> dict[str, Any]:
    done = train(run, resume=(out / CHECKPOINT).is_file())
    return {"warmup_seconds": done.warmup_seconds, "seconds": done.seconds}


def _replays(evaluation: Evaluation) -> list[Episode]:
    """One episode of every template, seen and unseen, with screenshots; what could not be scored is left out."""
    both = [replace(evaluation, template=kind, episodes=n) for kind, n in (("", 9), ("unseen", 2))]
    return [replay(t) for e in both for t in play(e, world(e), record=True) if t.scored]


def replay(trajectory: Trajectory) -> Episode:
    """A trajectory of a recorded world as the page shows it."""
    info = trajectory.info
    steps = [Step(t.observation[-1].text, t.action.text, t.info.get("screenshot")) for t in trajectory.turns]
    last = trajectory.final[-1].text if trajectory.final else ""
    steps.append(Step(last, "", info.get("final_screenshot")))
    return Episode(str(info["goal"]), str(info["template"]), int(info["level"]), bool(info["success"]), tuple(steps))
