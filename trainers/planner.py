"""How many episodes a group gets, and whether an update learns from it."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from ..envs import UsageError
from .rollout import Group, Spec
from .rows import REUSED

if TYPE_CHECKING:
    from .estimator import Recipe

Name = Literal["plain", "stages", "resample"]


class Planner(Protocol):
    """Decides by what has been played of a group alone; what that costs is counted by the loop."""

    def first(self, spec: Spec) -> Spec:
        """What of the group ``spec`` is played at first."""
        ...

    def more(self, group: Group) -> Spec | None:
        """What of the group is played yet, its spec being the whole of what has been; None: it is complete."""
        ...

    def keeps(self, group: Group, dropped: int) -> bool:
        """Whether an update learns from the complete group; ``dropped`` others were not kept since the last update."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """Every group is played whole and learned from."""

    def first(self, spec: Spec) -> Spec:
        return spec

    def more(self, group: Group) -> Spec | None:
        return None

    def keeps(self, group: Group, dropped: int) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Stages:
    """AR3PO's adaptive rollout (arXiv 2509.25808): a group without a success gets ``each`` more, up to ``most``.

    Raises UsageError unless ``each`` divides ``most``.

    At success p a group of S stages of k episodes costs k (1 + (1-p)^k + ... + (1-p)^(k (S-1))) episodes.
    """

    each: int
    most: int

    def __post_init__(self) -> None:
        if self.each < 1 or self.most % self.each:
            raise UsageError(f"{self}: a group of {self.most} is not played in stages of {self.each}")

    def first(self, spec: Spec) -> Spec:
        return replace(spec, size=self.each)

    def more(self, group: Group) -> Spec | None:
        spec = group.spec
        if spec.size >= self.most or successes(group):
            return None
        return replace(spec, first=spec.first + spec.size, size=self.each)

    def keeps(self, group: Group, dropped: int) -> bool:
        return True

    def cost(self, success: float) -> float:
        """Expected episodes of a group."""
        return self.each * sum((1 - success) ** (self.each * s) for s in range(self.most // self.each))


@dataclass(frozen=True, slots=True)
class Resample:
    """DAPO's dynamic sampling (arXiv 2503.14476, eq. 11): groups of equal returns are replaced by others.

    At success p of a binary reward a kept group of G costs G / (1 - p^G - (1-p)^G) episodes. Where nothing can be
    learned that has no end: after ``most`` dropped groups since the last update, every group is kept.
    """

    most: int

    def first(self, spec: Spec) -> Spec:
        return spec

    def more(self, group: Group) -> Spec | None:
        return None

    def keeps(self, group: Group, dropped: int) -> bool:
        return dropped >= self.most or len({t.reward for t in group.trajectories if t.counted}) > 1


def planner(name: Name, *, groups: int, size: int, stages: int, most: int) -> Planner:
    """By its name, for updates of ``groups`` groups of ``size``.

    ``stages`` are those of ``Stages``, ``most`` the groups that ``Resample`` may drop for each that it keeps.
    Raises UsageError for numbers that do not fit.
    """
    if name == "stages":
        if stages < 2 or size % stages:
            raise UsageError(f"groups of {size} are not played in {stages} stages: take a number that divides them")
        return Stages(size // stages, size)
    return Resample(groups * most) if name == "resample" else Plain()


def fits(recipe: "Recipe", *, planner: Name, size: int, stages: int, resample: int, reuse: int) -> None:
    """Raises UsageError for what ``recipe`` cannot learn from, or would not read (rule 9)."""
    if resample < 1 or reuse < 0:
        raise UsageError("resample must be at least 1, and reuse cannot be negative")
    if planner == "stages" and recipe.greedy:
        raise UsageError("the credit wants a greedy episode beside each whole group: leave out planner stages")
    if planner == "stages" and recipe.compares and size == stages:
        raise UsageError(f"{stages} stages of {size} episodes leave one alone, which teaches nothing: raise size")
    if planner == "resample" and not recipe.compares:
        raise UsageError("groups of equal returns teach this recipe, too: leave out planner resample")
    if reuse and not recipe.reuses:
        raise UsageError("the credit does not read what is reused: leave out reuse")
    if REUSED in recipe.sources and not reuse:
        raise UsageError("a term learns from earlier successes: say how many are kept, reuse and seeds")


def joined(earlier: Group | None, later: Group) -> Group:
    """A group of all that has been played of it, its spec the whole of that."""
    if earlier is None:
        return later
    first, last = earlier.spec, later.spec
    spec = replace(first, size=last.first + last.size - first.first)
    return Group(spec, (*earlier.trajectories, *later.trajectories))


def successes(group: Group) -> int:
    """Scored episodes of the policy with a return above 0."""
    return sum(t.counted and t.reward > 0 for t in group.trajectories)
