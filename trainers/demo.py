"""The main job as one command: measure the embedded policy, train it, measure it again in a real browser."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..agents.tiny import BASE
from ..envs import extra
from ..envs.web.chromium import find
from . import log as logs
from .evaluate import Evaluation, play, world
from .files import write_text
from .machine import machine
from .options import doc
from .parts import Parts
from .plot import Mark, learning_curve
from .recipes import RUNS
from .report import Report, from_json, table
from .rollout import Trajectory
from .run import WARMUP
from .settings import Run
from .view import Episode, Step, write

RESULT, CURVE, PAGE = "result.json", "learning_curve.png", "index.html"
COMMITTED = Path(__file__).parent / "controls.json"  # made by ``turngym controls``
CONTROLS = {"zero": "Zero", "clone": "10x cloning"}
TRAINED = (1, 2, 3)  # levels of the short demonstration


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The demonstration: held-out sites before, after the warm-up and after RL."""

    out: str = field(default="", metadata=doc("folder; none: runs/demo, with --long runs/demo-long"))
    long: bool = field(default=False, metadata=doc("train on all four levels"))
    seed: int = field(default=0, metadata=doc("root of all randomness"))


def plan(settings: Demo) -> Run:
    """The training run of the demonstration."""
    run = replace(RUNS["webagent_r1"](), seed=settings.seed)
    if settings.long:
        return replace(run, out=settings.out or "runs/demo-long", levels=(1, 2, 3, 4), demonstrations=240, steps=200)
    return replace(run, out=settings.out or "runs/demo", levels=TRAINED)


def demo(settings: Demo) -> Path:
    """Runs what is not there yet; returns the folder, with result.json, the agent, a curve and the replays.

    Held-out data all through: products and topics that no training site shows. Started again after an interruption
    it goes on after the last finished phase, and within RL at the last checkpoint.
    """
    run = plan(settings)
    out = Path(run.out)
    extra("matplotlib", "demo"), find()  # what the end needs is asked for at the start
    parts = Parts(out / "parts")
    parts.claim(run)
    seen = Evaluation(agent=str(BASE), episodes=100, levels=TRAINED, seed=settings.seed)
    print(f"turngym demo: training on levels {', '.join(map(str, run.levels))}; results in {out}", flush=True)
    start = parts.report("start", replace(seen, engine="parser"))
    trained = parts.train("train", run)
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
            "Success on held-out data, with 95 % intervals:",
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


def _replays(evaluation: Evaluation) -> list[Episode]:
    """One episode of every template, seen and unseen, with screenshots; what could not be scored is left out."""
    both = [replace(evaluation, template=kind) for kind in ("", "unseen")]
    return [replay(t) for e in both for t in play(e, world(e), record=True, each=1) if t.scored]


def replay(trajectory: Trajectory) -> Episode:
    """A trajectory of a recorded world as the page shows it."""
    info = trajectory.info
    steps = [Step(t.observation[-1].text, t.action.text, t.info.get("screenshot")) for t in trajectory.turns]
    last = trajectory.final[-1].text if trajectory.final else ""
    steps.append(Step(last, "", info.get("final_screenshot")))
    return Episode(str(info["goal"]), str(info["template"]), int(info["level"]), bool(info["success"]), tuple(steps))
