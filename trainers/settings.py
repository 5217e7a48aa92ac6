"""The settings of a training run."""

from dataclasses import dataclass, field, fields
from typing import Any

import torch

from ..envs import UsageError
from .estimator import Recipe


def _help(text: str) -> Any:
    return {"help": text}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that a training run depends on. The command line changes the scalars, never the recipe."""

    recipe: Recipe
    env: str = field(default="turngym/WebShop-v0", metadata=_help("environment id, or module:id"))
    levels: tuple[int, ...] = field(default=(), metadata=_help("levels to learn on by RL; none: all"))
    engine: str = field(default="", metadata=_help("parser or browser, for worlds that have engines"))
    model: str = field(default="", metadata=_help("model folder or hub id; none: the embedded policy"))
    device: str = field(default="cpu", metadata=_help("where learner and samplers compute: cpu or cuda"))
    out: str = field(default="runs/webagent_r1", metadata=_help("folder of the run"))
    seed: int = field(default=0, metadata=_help("root of all randomness"))
    demonstrations: int = field(default=80, metadata=_help("gold episodes to clone first, of all levels; 0: none"))
    clone_epochs: int = field(default=15, metadata=_help("most epochs over the demonstrations"))
    clone_lr: float = field(default=1e-3, metadata=_help("learning rate of cloning"))
    validation: int = field(default=100, metadata=_help("validation tasks that choose the epoch"))
    rehearsal: int = field(default=10, metadata=_help("demonstrations in every update"))
    steps: int = field(default=140, metadata=_help("updates"))
    groups: int = field(default=24, metadata=_help("groups an update"))
    size: int = field(default=8, metadata=_help("episodes a group"))
    lr: float = field(default=6e-4, metadata=_help("learning rate of the updates"))
    temperature: float = field(default=1.0, metadata=_help("of sampling in training"))
    max_lag: int = field(default=0, metadata=_help("updates that a sampled token may be old; 0: synchronous"))
    max_failures: float = field(default=0.25, metadata=_help("share of failed episodes that stops the run"))
    workers: int = field(default=2, metadata=_help("rollout processes"))
    threads: int = field(default=2, metadata=_help("torch threads of the learner"))
    checkpoint_every: int = field(default=10, metadata=_help("updates between checkpoints"))
    browser_every: int = field(default=10, metadata=_help("updates between groups also played in Chromium; 0: never"))


def scalars(run: Run) -> dict[str, Any]:
    """The settings but the recipe, as JSON holds them."""
    values = {f.name: getattr(run, f.name) for f in fields(run) if f.name != "recipe"}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def check(run: Run) -> None:
    """Raises UsageError for numbers out of range and for a device that is not there."""
    least = {"steps": 0, "groups": 1, "size": 2, "workers": 1, "threads": 1, "checkpoint_every": 1, "validation": 1}
    for name, low in least.items():
        if getattr(run, name) < low:
            raise UsageError(f"{name} must be at least {low}, not {getattr(run, name)}")
    if min(run.demonstrations, run.clone_epochs, run.rehearsal, run.browser_every, run.max_lag) < 0:
        raise UsageError("demonstrations, clone_epochs, rehearsal, browser_every and max_lag cannot be negative")
    if run.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device {run.device} is not there: this torch sees no CUDA; use --device cpu")
