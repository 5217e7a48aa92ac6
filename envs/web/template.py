"""Templates of web tasks: what draws an episode's sites and its task from a seed, and the choice among them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from .engine import Make, Place
from .task import Evaluator, Step, Task
from .words import SPLITS, Split


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done, on sites that are not made yet; ``gold`` leaves out the exit, whose message is ``answer``.

    ``start`` is the path of the first tab, where it is not a site's home.
    """

    goal: str
    gold: tuple[Step, ...]
    evaluators: tuple[Evaluator, ...]
    start: str = "/"
    answer: str = "done"


@dataclass(frozen=True, slots=True)
class Draft:
    """A job, the sites that it is on, and the tabs to start with: one a site, in their order."""

    job: Job
    sites: Mapping[str, Make]


@dataclass(frozen=True, slots=True)
class Episode:
    """A task and the sites to do it on."""

    task: Task
    sites: Mapping[str, Make]


@dataclass(frozen=True, slots=True)
class Template:
    """``draft(rng, split)`` grows sites with the data of ``split`` and drafts a task on them.

    Templates of split "train" are seen in training, the others never.
    """

    name: str
    level: int
    split: Split
    draft: Callable[[np.random.Generator, Split], Draft]

    def episode(self, rng: np.random.Generator, split: Split) -> Episode:
        """The episode that ``rng`` draws."""
        draft = self.draft(rng, split)
        job, names = draft.job, tuple(draft.sites)
        gold = (*job.gold, Step("exit", argument=job.answer, thought="done"))
        start = (Place(names[0], job.start), *map(Place, names[1:]))
        return Episode(Task(self.name, self.level, job.goal, start, job.evaluators, gold), draft.sites)


def choose(
    templates: Sequence[Template], task: str | None, split: str, level: int | tuple[int, ...] | None
) -> tuple[Template, ...]:
    """The templates that an environment draws from.

    ``task`` is a template's name, "seen" (those of training; the default) or "unseen" (those kept for ``split``).
    Raises UsageError when nothing fits.
    """
    if split not in SPLITS:
        raise UsageError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    levels = (level,) if isinstance(level, int) else level
    by_name = {t.name: t for t in templates}
    if task in by_name:
        fits = [by_name[task]]
    elif task in (None, "seen"):
        fits = [t for t in templates if t.split == "train"]
    elif task == "unseen":
        fits = [t for t in templates if t.split == split != "train"]
    else:
        raise UsageError(f"no task {task!r} here; there are seen, unseen, {', '.join(by_name)}")
    fits = [t for t in fits if levels is None or t.level in levels]
    if not fits:
        raise UsageError(f"there is no task {task or 'seen'!r} of level {levels} in split {split!r}")
    return tuple(fits)
