"""The main job as one command: measure the embedded policy, train it, measure it again in a real browser."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..agents.tiny import BASE
from ..envs import UsageError
from . import log as logs
from .evaluate import Evaluation, evaluate, play, world
from .files import write_text
from .plot import Mark, learning_curve
from .recipes import RUNS
from .report import Report, table
from .rollout import Trajectory
from .run import CHECKPOINT, WARMUP, Trained, train
from .settings import Run
from .view import Episode, Step, write

RESULT, CURVE, PAGE = "result.json", "learning_curve.png", "index.html"
CONTROLS_FILE = Path("benchmarks/results/controls.json")


def _help(text: str) -> Any:
    return {"help": text}


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The demonstration: held-out shops before, after the warm-up and after RL."""

    out: str = field(default="", metadata=_help("folder; none: runs/demo, or runs/demo-long with --long"))
    long: bool = field(default=False, metadata=_help("train on all four levels, for up to 90 minutes"))
    seed: int = field(default=0, metadata=_help("root of all randomness"))


def plan(settings: Demo) -> Run:
    """The training run of the demonstration."""
    run = replace(RUNS["webagent_r1"](), out=folder(settings), seed=settings.seed)
    if settings.long:
        return replace(run, levels=(1, 2, 3, 4), demonstrations=160, steps=400)
    return replace(run, levels=(1, 2, 3))


def folder(settings: Demo) -> str:
    return settings.out or ("runs/demo-long" if settings.long else "runs/demo")
