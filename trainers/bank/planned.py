"""Updates on the bank as the loop plans them: tasks are drawn, groups played by a planner, successes used again."""

from collections.abc import Iterable

from ..curriculum import Curriculum
from ..planner import Planner, joined
from ..reuse import Reuse
from ..rollout import Group, Spec, Trajectory
from .play import Player
from .policy import Table


class Ledger:
    """What the policy has generated: responses (episodes), tokens, and groups that no update learned from."""

    def __init__(self) -> None:
        self.responses = self.tokens = self.dropped = 0

    def add(self, generated: Iterable[Trajectory]) -> None:
        for t in generated:
            self.responses += 1
            self.tokens += sum(len(call.sample.tokens) for turn in t.turns for call in turn.action.calls)


class Planned:
    """Batches of ``groups`` groups of up to ``size`` episodes; without a curriculum the tasks come in turn.

    Groups are numbered as they start, dropped ones among them. What is under way ends before anything is decided,
    and decisions are made in the order of groups, as in an exact run of the loop.
    """

    def __init__(
        self,
        player: Player,
        planner: Planner,
        ledger: Ledger,
        *,
        groups: int,
        size: int,
        curriculum: Curriculum | None = None,
        reuse: Reuse | None = None,
    ) -> None:
        self._player, self._planner, self._ledger = player, planner, ledger
        self._count, self._size, self._curriculum, self._reuse = groups, size, curriculum, reuse
        self._started = 0  # groups, and the number of the next

    def batch(self, table: Table, version: int, update: int) -> list[Trajectory]:
        """What update ``update`` learns from, played by the weights of ``version``."""
        groups, dropped = self.play(table, version)
        taught = self._reuse.fill(groups, update) if self._reuse else groups
        if self._curriculum:
            self._curriculum.update(sorted([*groups, *dropped], key=lambda g: g.spec.group))
        return [t for group in taught for t in group.trajectories]

    def play(self, table: Table, version: int) -> tuple[list[Group], list[Group]]:
        """The next groups that the planner keeps, in the order of their numbers, and those that it drops."""
        kept, begun, dropped = list[Group](), dict[int, Group](), list[Group]()
        asked = [self._next() for _ in range(self._count)]
        while asked:
            ended = sorted(self._player.parts(table, version, asked), key=lambda part: part.spec.group)
            asked = []
            for part in ended:
                self._ledger.add(part.trajectories)
                group = joined(begun.pop(part.spec.group, None), part)
                more = self._planner.more(group)
                if more is not None:
                    begun[group.spec.group] = group
                    asked.append(more)
                elif self._planner.keeps(group, len(dropped)):
                    kept.append(group)
                else:
                    dropped.append(group)
                    asked.append(self._next())
        self._ledger.dropped += len(dropped)
        return sorted(kept, key=lambda group: group.spec.group), dropped

    def _next(self) -> Spec:
        """The first part of a group that starts now; a task has one prompt, and so one seed."""
        group, names = self._started, self._player.names
        self._started += 1
        task = self._curriculum.draw(group) if self._curriculum else names[group % len(names)]
        return self._planner.first(Spec(group, task, names.index(task), self._size))
