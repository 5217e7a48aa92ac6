"""Bounded staleness without discarding (rule 7): which groups may start, and which an update takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..envs import UsageError


@dataclass(slots=True)
class _Group:
    version: int  # of the weights when it was admitted, or when its first episode began
    order: int  # of admission
    finished: bool = False


class Admission:
    """Counts groups from their admission until an update takes them; it holds no episode itself.

    The lag of a group is the version of the update that takes it less the version under which it began, the
    largest lag of its tokens; until it is known to have begun, the version that admitted it counts. It never
    exceeds ``max_lag``, whatever the episodes' lengths; ``max_lag`` 0 is synchronous training.

    Args:
        batch: groups that one update takes.
        max_lag: the bound, in versions.
        slots: groups that may run at once.
        soft: never wait for a slow group, and promise no bound.
        version: the learner's version when the run starts.

    Raises UsageError for numbers out of range.
    """

    def __init__(self, batch: int, max_lag: int, slots: int, soft: bool = False, version: int = 0) -> None:
        if batch < 1 or slots < 1 or max_lag < 0:
            raise UsageError(f"batch={batch}, slots={slots} must be at least 1 and max_lag={max_lag} at least 0")
        self.batch, self.max_lag, self.slots, self.soft, self.first = batch, max_lag, slots, soft, version
        self.accepted = 0  # groups finished and kept, those that updates took included
        self._groups: dict[int, _Group] = {}  # running, or finished and not yet taken
        self._order = 0

    @property
    def running(self) -> int:
        """Groups whose episodes have not all ended."""
        return sum(not g.finished for g in self._groups.values())

    def room(self, version: int) -> int:
        """How many groups may start now: min(free slots, (max_lag + version + 1) batch - accepted - running)."""
        ahead = (self.max_lag + version - self.first + 1) * self.batch - self.accepted - self.running
        return max(0, min(self.slots - self.running, ahead))

    def start(self, group: int, version: int) -> None:
        """Admit ``group``. Raises UsageError if there is no room for it or it is here already."""
        if group in self._groups or self.room(version) < 1:
            raise UsageError(f"group {group} cannot start at version {version}: no room, or it has started")
        self._groups[group] = _Group(version, self._order)
        self._order += 1

    def begin(self, group: int, version: int) -> None:
        """``group`` had to wait for a slot and begins under ``version``: it is no older than that."""
        found = self._find(group)
        found.version = max(found.version, version)

    def finish(self, group: int) -> None:
        """All episodes of ``group`` ended and it is kept."""
        found = self._find(group)
        if found.finished:
            raise UsageError(f"group {group} finished before")
        found.finished = True
        self.accepted += 1

    def drop(self, group: int) -> None:
        """``group`` failed or was filtered: it leaves both counts, and another may start in its place."""
        self.accepted -= self._find(group).finished
        del self._groups[group]

    def take(self, version: int) -> tuple[int, ...] | None:
        """The groups that the update at ``version`` learns from, the oldest first; None while it must wait.

        It waits for a full batch, and unless ``soft`` while the groups left behind could not all be taken in
        time by the updates to come: that happens only when one of them is unfinished and near the bound.
        """
        queue = sorted(self._groups, key=lambda g: (self._groups[g].version, self._groups[g].order))
        chosen = [g for g in queue if self._groups[g].finished][: self.batch]
        if len(chosen) < self.batch:
            return None
        if not self.soft and not self._in_time([g for g in queue if g not in chosen], version):
            return None
        for group in chosen:
            del self._groups[group]
        return tuple(chosen)

    def state_dict(self) -> dict[str, Any]:
        """The counts and every group; what was running must be run again or dropped after a resume."""
        groups = [[key, g.version, g.order, g.finished] for key, g in self._groups.items()]
        return {"accepted": self.accepted, "order": self._order, "first": self.first, "groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.accepted, self._order, self.first = state["accepted"], state["order"], state["first"]
        self._groups = {key: _Group(version, order, done) for key, version, order, done in state["groups"]}

    def _in_time(self, left: list[int], version: int) -> bool:
        """Whether updates at version + 1, version + 2, ... can take ``left``, oldest first, within the bound."""
        due = sorted(self._groups[g].version + self.max_lag for g in left)
        return all(index < (last - version) * self.batch for index, last in enumerate(due))

    def _find(self, group: int) -> _Group:
        try:
            return self._groups[group]
        except KeyError as error:
            raise UsageError(f"group {group} is not running or waiting") from error
