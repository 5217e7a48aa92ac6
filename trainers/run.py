"""A run: settings in one frozen dataclass, warm-up, then the loop; everything it makes lies in one folder."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..agents.chat import Prompter
from ..agents.memory import MEMORIES
from ..envs import CheckpointError, UsageError
from . import checkpoint
from .curriculum import Spread
from .demonstrations import demonstrate
from .estimator import Recipe
from .files import write_text
from .habits import Habits, habits, write
from .learner import Learner
from .log import Log
from .loop import Loop
from .models import folder, load, save
from .recipes.clone import clone
from .rollout import Trajectory
from .rows import POLICY
from .settings import Run, check, scalars
from .warmup import warm_up
from .workers import Setting, Workers
from .worlds import BROWSERS, Options, accepts, make, manners, options, templates

__all__ = ["Run", "Trained", "train"]

CHECKPOINT, WARMUP = "checkpoint.pt", "warmup"


@dataclass(frozen=True, slots=True)
class Trained:
    """What ``train`` leaves: the agent's folder, seconds of each phase, success in the last update's episodes."""

    folder: str
    warmup_seconds: float
    seconds: float
    success: float


def worlds(run: Run, used: Habits) -> dict[str, Options]:
    """The run's worlds by name: "train", "validation" where there is such a split, "browser" for comparison."""
    base: dict[str, Any] = {"engine": run.engine or None, "level": run.levels or None}
    base |= {"max_turns": run.max_turns or None} | manners(run.env, used)
    split = accepts(run.env, "split")
    found = {"train": options(run.env, **base, split="train" if split else None)}
    found["validation"] = options(run.env, **base, split="validation") if split else found["train"]
    if run.browser_every and accepts(run.env, "engine") and run.engine not in BROWSERS:
        from ..envs.web.chromium import find

        try:
            find()  # a missing browser is said before the first episode, not after ten updates
        except UsageError as error:
            raise UsageError(f"{error}; or do without the comparison in a browser: --browser-every 0") from error
        found["browser"] = options(run.env, **(base | {"engine": "browser"}), split="train" if split else None)
    return found


def train(run: Run, *, resume: bool = False) -> Trained:
    """Warm up by cloning, then learn by the recipe; saves the agent in ``run.out``.

    ``resume`` goes on from the folder's checkpoint. Raises CheckpointError when there is none or it belongs to
    another run, UsageError for settings that cannot be.
    """
    check(run)
    torch.set_num_threads(run.threads)
    out, used = Path(run.out), habits(run.model, memory=run.memory, prompt=run.prompt)
    saved = _saved(run, out) if resume else None
    model, tokenizer = load(run.model, run.device)
    places = worlds(run, used)
    every = tuple((k, v) for k, v in places["train"] if k != "level")  # demonstrations are of all levels
    with _world(run.env, every) as world:
        prompter, recall = Prompter(tokenizer), MEMORIES[used.memory]
        demos = demonstrate(world, templates(world), run.demonstrations, prompter, recall, run.seed)
    longest = max((len(c.sample.tokens) for t in demos for turn in t.turns for c in turn.action.calls), default=1)
    used = replace(used, max_tokens=max(used.max_tokens, longest))
    setting = Setting(
        env=run.env,
        worlds=tuple(places.items()),
        agent=folder(run.model),
        memory=used.memory,
        temperature=run.temperature,
        max_tokens=used.max_tokens,
        seed=run.seed,
        slots=8 if run.engine in BROWSERS else 1024,
        threads=4 if run.engine in BROWSERS else 1,
        device=run.device,
    )
    with _world(run.env, places["train"]) as world:
        names = templates(world)
    with Workers(setting, run.workers) as workers, Log(out, saved["step"] if saved else None) as log:
        if saved is None:
            write_text(out / "run.json", json.dumps(scalars(run), indent=2) + "\n")
        warm = _warmed(run, model, demos, names, workers) if saved is None else saved["warmup_seconds"]
        if saved is None:
            save(out / WARMUP, model, tokenizer)
            write(out / WARMUP, used)
        recipe = _recipe(run, demos)
        references = {name: load(str(out / WARMUP), run.device)[0] for name in recipe.references}
        learner = Learner(model, recipe, lr=run.lr, references=references)
        loop = Loop(run, learner, Spread(names, run.seed), workers, demos, log)

        def keep() -> None:
            checkpoint.save(out / CHECKPOINT, settings=scalars(run), warmup_seconds=warm, **loop.state_dict())

        loop.load_state_dict(saved) if saved else keep()
        success = loop.play(keep)
    save(out, model, tokenizer)
    write(out, used)
    return Trained(str(out), warm, loop.seconds, success)


def _warmed(run: Run, model: Any, demos: list[Trajectory], names: tuple[str, ...], workers: Workers) -> float:
    """Clone the demonstrations, if any, and hand the weights to the samplers; returns the seconds it took."""
    start = time.monotonic()
    learner = Learner(model, clone(), lr=run.clone_lr)
    if demos:
        warm_up(learner, demos, names, workers, epochs=run.clone_epochs, validation=run.validation, seed=run.seed)
    workers.publish(dict(learner.tensors()), 0)
    return time.monotonic() - start


def _recipe(run: Run, demos: list[Trajectory]) -> Recipe:
    """The recipe without its terms on demonstrations when there are none."""
    if demos and run.rehearsal:
        return run.recipe
    return replace(run.recipe, terms=tuple(t for t in run.recipe.terms if POLICY in t.rows))


@contextmanager
def _world(env: str, made_with: Options) -> Iterator[Any]:
    world = make(env, made_with)
    try:
        yield world
    finally:
        world.close()


def _saved(run: Run, out: Path) -> dict[str, Any]:
    state = checkpoint.load(out / CHECKPOINT)
    now = scalars(run)
    may_change = {"out", "steps", "workers", "threads", "checkpoint_every", "browser_every"}
    other = [k for k, v in state["settings"].items() if k not in may_change and now.get(k) != v]
    if other:
        raise CheckpointError(
            f"{out} was trained with other settings: "
            + ", ".join(f"{k} {state['settings'][k]} there, {now.get(k)} here" for k in other)
        )
    return state
