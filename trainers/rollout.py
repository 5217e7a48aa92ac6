"""Play: a world and an agent make a trajectory."""

from dataclasses import dataclass
from typing import Any, Literal

from ..agents import Turn
from ..envs import Messages

Outcome = Literal["terminated", "truncated", "env_error", "agent_error", "judge_error", "timeout"]
SCORED: frozenset[str] = frozenset({"terminated", "truncated"})  # the rest are failures (rule 3)


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One seat's episode, from reset to outcome.

    ``group`` is unique in a run; members of a group played the same task from the same seed. ``source`` tells
    sampled trajectories ("policy") from demonstrations ("demonstration"), which are in no group statistic.
    """

    id: str
    task: str
    seed: int
    group: int
    member: int
    turns: tuple[Turn, ...]
    final: Messages
    outcome: Outcome
    seat: str = ""
    source: str = "policy"

    @property
    def reward(self) -> float:
        """The undiscounted return."""
        return sum(t.reward for t in self.turns)

    @property
    def scored(self) -> bool:
        """Whether the return means anything: failures are censored, not zero."""
        return self.outcome in SCORED

    @property
    def info(self) -> dict[str, Any]:
        """What the world said at the last turn."""
        return dict(self.turns[-1].info) if self.turns else {}
