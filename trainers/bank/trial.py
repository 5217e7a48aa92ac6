"""One run on the bank: a recipe, a world, a lag and a seed; what is measured of it has no sampling noise of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from math import nan
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...envs import UsageError
from ..batch import collate
from ..curricula import CURRICULA
from ..curriculum import Name as Curriculum
from ..estimator import Recipe, Update
from ..learner import Learner
from ..options import unknown
from ..planner import Name as Planner
from ..planner import fits, planner
from ..recipes import ALGORITHMS
from ..reuse import Reuse
from ..rollout import Trajectory
from ..rows import DEMONSTRATION
from .corridor import Corridor
from .planned import Ledger, Planned
from .play import Delayed, Player
from .policy import Table, Tabular, entropy, log_softmax
from .tasks import Bank, Wordy, World, known

LR = 0.1  # of every recipe on every world: above it the bank is learned before settings can differ
WINDY = Corridor(doors=12, turns=32, wind=0.2, name="windy")
GRADED = Bank(odds=known(64, 0.01, 0.95), name="graded")  # more tasks than groups: each comes now and then
WORLDS: dict[str, World] = {world.name: world for world in (Bank(), Wordy(), Corridor(), WINDY, GRADED)}


@dataclass(frozen=True, slots=True)
class Setting:
    """What is run, but for the seed.

    ``options`` are the recipe's, as pairs. ``lag``: see ``Delayed``. ``shown``: with every update comes a gold
    episode for the groups of so many tasks, the hardest first. ``probes``: nothing is learned; as many gradients of
    the first policy are taken, and what they scatter is measured.

    ``curriculum`` draws the tasks, which come in turn without one; ``planner``, its ``stages`` or ``resample``, and
    ``reuse`` are as in a training run.
    """

    recipe: str
    options: tuple[tuple[str, Any], ...] = ()
    world: str = "bank"
    lag: int = 0
    updates: int = 80
    groups: int = 16
    size: int = 8
    shown: int = 0
    probes: int = 0
    curriculum: Curriculum | Literal[""] = ""
    planner: Planner = "plain"
    stages: int = 2
    resample: int = 10
    reuse: int = 0

    @property
    def planned(self) -> bool:
        """Whether groups are other than whole ones of tasks in turn."""
        return bool(self.curriculum or self.planner != "plain" or self.reuse)

    @property
    def label(self) -> str:
        """The recipe as it would be written, and its lag."""
        options = ", ".join(f"{name}={value}" for name, value in self.options)
        made = f"{self.recipe}({options})" if options else self.recipe
        return f"{made} lag {self.lag}" if self.lag else made

    @property
    def title(self) -> str:
        """The same with what else is unusual, which ``label`` leaves to the claim."""
        usual = {f.name: f.default for f in fields(self) if f.name not in ("recipe", "options", "lag")}
        said = [f"{name} {getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return ", ".join([self.label, *said])

    def make(self) -> Recipe:
        """Raises UsageError for a recipe that there is not."""
        if self.recipe not in ALGORITHMS:
            raise UsageError(unknown("recipe", self.recipe, sorted(ALGORITHMS)))
        return ALGORITHMS[self.recipe](**dict(self.options))

    def check(self, recipe: Recipe) -> None:
        """Raises UsageError for what says nothing, or cannot be together."""
        for name in ("stages", "resample"):
            if getattr(self, name) != getattr(Setting(self.recipe), name) and self.planner != name:
                raise UsageError(f"{name} is of the planner {name}: {self.title} has another")
        if self.curriculum and self.curriculum not in CURRICULA:
            raise UsageError(unknown("curriculum", self.curriculum, sorted(CURRICULA)))
        if self.planned and (self.shown or self.probes or recipe.greedy):
            raise UsageError(f"{self.title}: demonstrations, probes and greedy episodes go with plain groups in turn")
        fits(recipe, planner=self.planner, size=self.size, stages=self.stages, resample=self.resample, reuse=self.reuse)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What a run was like, each before its first update and after every one: [updates + 1]."""

    success: tuple[float, ...]  # mean over tasks
    entropy: tuple[float, ...]  # mean over states and positions, in nats
    wrong: tuple[float, ...] = ()  # in Wordy: expected symbols of a wrong answer, mean over tasks
    episodes: int = 0  # of an update
    noise: float = nan  # of ``probes``: variance of the gradient by the square of its mean
    responses: tuple[int, ...] = ()  # episodes generated so far, those of dropped groups among them
    tokens: tuple[int, ...] = ()  # of them
    dropped: int = 0  # groups that no update learned from


@contextmanager
def one_thread() -> Iterator[None]:
    """The tables are so small that threads of torch would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def trial(setting: Setting, seed: int) -> Curve:
    """Run ``setting`` through ``collate`` and ``Learner.update``; equal arguments give equal curves."""
    world = WORLDS[setting.world]
    recipe, player = setting.make(), Player(world, seed)
    setting.check(recipe)
    if setting.probes:
        return Curve((), (), noise=_noise(setting, recipe, world, player))
    ledger, learner = Ledger(), learner_of(recipe, world)
    planned = _plan(setting, player, ledger) if setting.planned else None
    delayed, seen, counts = Delayed(setting.lag), [_seen(world, _table(learner))], [(0, 0)]
    for update in range(setting.updates):
        delayed.push(update, _table(learner))
        version, table = delayed.player
        if planned:
            played = planned.batch(table, version, update)
        else:
            played = _played(setting, recipe, player, table, version, update)
            ledger.add(t for t in played if t.source != DEMONSTRATION)
        learner.update(collate(played), update / setting.updates)
        seen.append(_seen(world, _table(learner)))
        counts.append((ledger.responses, ledger.tokens))
    success, nats, wrong = zip(*seen, strict=True)
    responses, tokens = zip(*counts, strict=True)
    wrong = wrong if isinstance(world, Wordy) else ()
    episodes = setting.groups * setting.size
    return Curve(success, nats, wrong, episodes, responses=responses, tokens=tokens, dropped=ledger.dropped)


def _plan(setting: Setting, player: Player, ledger: Ledger) -> Planned:
    groups, size, seed = setting.groups, setting.size, player.seed
    return Planned(
        player,
        planner(setting.planner, groups=groups, size=size, stages=setting.stages, most=setting.resample),
        ledger,
        groups=groups,
        size=size,
        curriculum=CURRICULA[setting.curriculum](player.names, seed) if setting.curriculum else None,
        reuse=Reuse(seed, setting.reuse) if setting.reuse else None,
    )


def _played(
    setting: Setting, recipe: Recipe, player: Player, table: Table, version: int, update: int
) -> list[Trajectory]:
    groups, size = setting.groups, setting.size
    played = player.play(table, version, update, groups=groups, size=size, greedy=recipe.greedy)
    if not setting.shown:
        return played
    number = update * groups + np.arange(groups)
    shown = number[number % len(player.names) < setting.shown]
    return [*played, *player.demonstrations(shown, member=size + 1)]


def learner_of(recipe: Recipe, world: World, lr: float = LR) -> Learner:
    """Of a model that begins at the world's difficulty; "start" is a frozen copy."""

    def model() -> Tabular:
        return Tabular(world.logits().astype(np.float32))

    needed: Mapping[str, Tabular] = {"start": model()} if "start" in recipe.references else {}
    return Learner(model(), recipe, lr=lr, micro_tokens=1 << 20, references=needed)


def _table(learner: Learner) -> Table:
    assert isinstance(learner.model, Tabular)
    return learner.model.table()


def _seen(world: World, table: Table) -> tuple[float, float, float]:
    p = np.exp(log_softmax(table))
    wrong = float(world.wrong(p).mean()) if isinstance(world, Wordy) else 0.0
    return float(world.success(p).mean()), entropy(table), wrong


def _noise(setting: Setting, recipe: Recipe, world: World, player: Player) -> float:
    """Trace of the covariance of one batch's gradient, unclipped, by the squared norm of its mean (without bias)."""
    learner, found = learner_of(replace(recipe, update=Update()), world, 0.0), list[Tensor]()
    weight, table = learner.parameters[0], _table(learner)
    for update in range(setting.probes):
        weight.grad = None
        learner.update(collate(_played(setting, recipe, player, table, update, update)))
        found.append(torch.zeros_like(weight) if weight.grad is None else weight.grad.clone())
    gradients = torch.stack(found).double().flatten(1)
    variance = float(gradients.var(0).sum())
    return variance / max(float(gradients.mean(0).square().sum()) - variance / len(gradients), 1e-12)
