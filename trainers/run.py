"""A run: settings in one frozen dataclass, warm-up, then the loop; everything it makes lies in one folder."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..agents.chat import Prompter
from ..agents.memory import MEMORIES
from ..envs import CheckpointError, UsageError
from . import checkpoint
from .adapters import FOLDER as ADAPTER
from .curricula import CURRICULA
from .demonstrations import demonstrate
from .engines import Engines
from .episodes import Dump
from .estimator import Recipe
from .files import sweep, write_text
from .habits import Habits, habits, write
from .learner import Learner
from .log import Log
from .loop import Loop
from .models import aside, folder, load, save, tokenizer
from .plan import Plan
from .player import Setting
from .recipes.clone import clone
from .references import given
from .rollout import Limits, Trajectory
from .settings import Run, check, exact, scalars
from .study import Study
from .team import Team
from .trainee import Making, Trainee
from .warmup import warm_up
from .workers import Workers
from .worlds import BROWSERS, Options, accepts, make, manners, options, templates

__all__ = ["Run", "Trained", "train"]

SETTINGS, WARMUP = "run.json", "warmup"
START = "start"  # the reference that is the policy after the warm-up
MAY_CHANGE = {  # on a resume: nothing that changes what is learned
    "out", "steps", "workers", "threads", "world_threads", "checkpoint_every", "browser_every", "keep", "stall_seconds",
    "action_seconds", "step_seconds", "episode_seconds", "max_failures", "servers", "server_seconds", "transfer",
    "processes", "checkpointing", "micro_tokens",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trained:
    """What ``train`` leaves: the agent's folder, seconds of each phase, success in the last update's episodes."""

    folder: str
    warmup_seconds: float
    seconds: float
    success: float


def worlds(run: Run, used: Habits) -> dict[str, Options]:
    """The run's worlds by name: "train", "validation" where there is such a split, "browser" for comparison."""
    if run.program:
        return {"train": ()}
    base: dict[str, Any] = {"engine": run.engine or None, "level": run.levels or None}
    base |= {"max_turns": run.max_turns or None} | manners(run.env, used)
    split = accepts(run.env, "split")
    found = {"train": options(run.env, **base, split="train" if split else None)}
    found["validation"] = options(run.env, **base, split="validation") if split else found["train"]
    if run.browser_every and not run.max_lag and accepts(run.env, "engine") and run.engine not in BROWSERS:
        from ..envs.web.chromium import find

        try:
            find()  # a missing browser is said before the first episode, not after ten updates
        except UsageError as error:
            raise UsageError(f"{error}; or do without the comparison in a browser: --browser-every 0") from error
        found["browser"] = options(run.env, **(base | {"engine": "browser"}), split="train" if split else None)
    return found


def train(run: Run, *, resume: bool = False) -> Trained:
    """Warm up by cloning, then learn by the recipe; saves the agent in ``run.out``.

    ``resume`` goes on from the folder's newest checkpoint, or from the beginning when the run ended before its first.
    Raises CheckpointError when the folder holds no run or another one, UsageError for settings that cannot be.
    """
    check(run)
    torch.set_num_threads(threads(run))
    out, used = Path(run.out), habits(run.model, memory=run.memory, prompt=run.prompt)
    sweep(out)
    shelf = checkpoint.Shelf(out, run.keep)
    saved = _saved(run, out, shelf) if resume else None
    words = tokenizer(run.model)
    places = worlds(run, used)
    demos = _demonstrations(run, places, words, used)
    longest = max((len(c.sample.tokens) for t in demos for turn in t.turns for c in turn.action.calls), default=1)
    used = replace(used, max_tokens=max(used.max_tokens, longest))
    names = _tasks(run, places)
    step = saved["step"] if saved else None
    with ExitStack() as stack:
        pupils = stack.enter_context(team(run))
        engines = (
            stack.enter_context(Engines(run, load(run.model, dtype=run.dtype)[0])) if run.sampler == "vllm" else None
        )
        workers = stack.enter_context(Workers(_setting(run, used, places, engines), run.workers, engines))
        log = stack.enter_context(Log(out, step))
        dump = Dump(out, step or 0)
        write_text(out / SETTINGS, json.dumps(scalars(run), indent=2) + "\n")
        if saved is None:
            dump.demonstrations(demos)
        if saved is None:
            warm = _warmed(run, pupils, demos, names, workers, words)
            write(out / WARMUP, used)
        else:
            warm = saved["warmup_seconds"]
        study = Study(run, learner(run, out / WARMUP, demos, pupils), CURRICULA[run.curriculum](names, run.seed), demos)
        loop = Loop(run, study, workers, log, dump)

        def keep() -> None:
            shelf.save(study.version, settings=scalars(run), warmup_seconds=warm, **loop.state_dict())

        loop.load_state_dict(saved) if saved else keep()
        success = loop.play(keep)
        keep_agent(out, study.learner, words, out / WARMUP)
    write(out, used)
    return Trained(str(out), warm, loop.seconds, success)


def team(run: Run) -> Team:
    """The processes that learn; FSDP wants a group of one where passes compute in another type than weights have."""
    return Team(run.processes, run.device, grouped=making(run).sharded, threads=threads(run))


def threads(run: Run) -> int:
    """Torch threads of each learner process."""
    return max(1, run.threads // run.processes)


def making(run: Run) -> Making:
    """How the policy is trained."""
    return Making(run.device, run.dtype, run.checkpointing, run.lora, run.seed)


def learner(run: Run, start: Path, demos: Sequence[Trajectory], pupils: Team) -> Learner:
    """The run's learner, from the weights after the warm-up in ``start``; they are its references too."""
    recipe = _recipe(run, demos)
    wanted = given(recipe.references)
    if strange := sorted({*wanted} - {START}):
        raise UsageError(f"a run has one frozen model, {START!r}: the recipe also refers to {', '.join(strange)}")
    references = tuple((name, str(start)) for name in wanted)
    return pupils.learner(_plan(run, str(start), recipe, run.lr, references))


def _plan(run: Run, start: str, recipe: Recipe, lr: float, references: tuple[tuple[str, str], ...] = ()) -> Plan:
    micro = run.micro_tokens
    return Plan(folder=start, recipe=recipe, lr=lr, making=making(run), micro_tokens=micro, references=references)


def keep_agent(out: Path, trained: Learner, words: Any, base: Path | None = None) -> None:
    """Save the agent: a plain model, and beside it its adapters, if it has any, to those of the model in ``base``."""
    save(out, trained.model, words, dict(trained.tensors()))
    if base is not None and isinstance(trained.network, Trainee) and trained.network.adapters is not None:
        adapters, state = trained.network.adapters, trained.kept()
        aside(out / ADAPTER, lambda folder: adapters.files(folder, state, str(base)))


def _demonstrations(run: Run, places: Mapping[str, Options], tokenizer: Any, used: Habits) -> list[Trajectory]:
    if run.program:
        return []
    every = tuple((k, v) for k, v in places["train"] if k != "level")  # demonstrations are of all levels
    with _world(run.env, every) as world:
        prompter, recall = Prompter(tokenizer), MEMORIES[used.memory]
        return demonstrate(world, templates(world), run.demonstrations, prompter, recall, run.seed)


def _tasks(run: Run, places: Mapping[str, Options]) -> tuple[str, ...]:
    """What a group may play."""
    if run.program:
        return tuple(map(str, range(run.tasks)))
    with _world(run.env, places["train"]) as world:
        return templates(world)


def _setting(run: Run, used: Habits, places: Mapping[str, Options], engines: Engines | None) -> Setting:
    """What the workers need to know."""
    browsers = run.engine in BROWSERS
    return Setting(
        env=run.env,
        worlds=tuple(places.items()),
        agent=folder(run.model),
        memory=used.memory,
        temperature=run.temperature,
        max_tokens=used.max_tokens,
        seed=run.seed,
        slots=run.slots or (8 if browsers or run.program else 1024),
        threads=run.world_threads or (4 if browsers else 1),
        device=run.device,
        devices=run.processes if torch.device(run.device).type == "cuda" else 1,
        dtype=run.dtype,
        together=exact(run),
        limits=Limits(run.action_seconds, run.step_seconds, run.episode_seconds),
        refill=run.refill,
        stall=run.stall_seconds,
        servers=engines.urls if engines else (),
        server_seconds=run.server_seconds,
        program=run.program,
        requests=run.max_turns if run.program else 0,
    )


def _warmed(
    run: Run, pupils: Team, demos: list[Trajectory], names: tuple[str, ...], workers: Workers, words: Any
) -> float:
    """Clone the demonstrations, if any, save the weights and hand them to the samplers; the seconds it took."""
    start = time.monotonic()
    cloner = pupils.learner(_plan(run, folder(run.model), clone(), run.clone_lr))
    if demos:
        warm_up(cloner, demos, names, workers, epochs=run.clone_epochs, validation=run.validation, seed=run.seed)
    workers.publish(dict(cloner.tensors()), 0)
    seconds = time.monotonic() - start
    keep_agent(Path(run.out) / WARMUP, cloner, words)
    return seconds


def _recipe(run: Run, demos: Sequence[Trajectory]) -> Recipe:
    """The recipe, without its terms on demonstrations and their references when there are none.

    Raises UsageError when nothing is left of it.
    """
    return run.recipe if demos and run.rehearsal else run.recipe.alone()


@contextmanager
def _world(env: str, made_with: Options) -> Iterator[Any]:
    world = make(env, made_with)
    try:
        yield world
    finally:
        world.close()


def _saved(run: Run, out: Path, shelf: checkpoint.Shelf) -> dict[str, Any] | None:
    """The newest checkpoint; None when the run in ``out`` ended before it had one."""
    if not shelf.files():
        if not (out / SETTINGS).is_file():
            raise CheckpointError(f"no checkpoint in {shelf.folder}, and no run in {out}")
        state: dict[str, Any] = {"settings": json.loads((out / SETTINGS).read_text())}
    else:
        state = shelf.newest()
    now = scalars(run)
    other = [k for k, v in state["settings"].items() if k not in MAY_CHANGE and now.get(k) != v]
    if other:
        raise CheckpointError(
            f"{out} was trained with other settings: "
            + ", ".join(f"{k} {state['settings'][k]} there, {now.get(k)} here" for k in other)
        )
    return state if "step" in state else None
