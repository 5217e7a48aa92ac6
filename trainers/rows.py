"""Trajectories become rows of exact token ids; nothing is ever tokenised again (rule 1)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..agents import Call, Request
from ..envs import UsageError
from .rollout import Trajectory

POLICY, DEMONSTRATION = "policy", "demonstration"
REUSED = "reused"  # an earlier success of the same task and seed, put into a group that has none
GREEDY = "greedy"  # an episode of the likeliest tokens, played for a baseline: it has no rows
UNKNOWN = -1  # version of a token that no weights of this run wrote


@dataclass(slots=True)
class Row:
    """The tokens of one context, T of them: what was read and, where ``written``, what the policy wrote."""

    temperature: float
    ids: list[int] = field(default_factory=list)  # [T]
    written: list[bool] = field(default_factory=list)  # [T]
    behaviour: list[float] = field(default_factory=list)  # [T] log-probability when it was written, else 0
    versions: list[int] = field(default_factory=list)  # [T] weights that wrote it, else UNKNOWN
    turn: list[int] = field(default_factory=list)  # [T] the turn of its trajectory, counted from 0

    def takes(self, request: Request, temperature: float) -> bool:
        """Whether ``request`` extends exactly these ids, at the same temperature."""
        return self.temperature == temperature and list(request.ids[: len(self.ids)]) == self.ids

    def extend(self, call: Call, turn: int) -> None:
        """Append what ``call`` read beyond this row, then what it wrote."""
        fresh, sample = call.request.ids[len(self.ids) :], call.sample
        silent, spoken = len(fresh), len(sample.tokens)
        self.ids += [*fresh, *sample.tokens]
        self.written += [False] * silent + [True] * spoken
        self.behaviour += [0.0] * silent + list(sample.logps or [0.0] * spoken)
        self.versions += [UNKNOWN] * silent + list(sample.versions or [UNKNOWN] * spoken)
        self.turn += [turn] * (silent + spoken)


def rows(trajectory: Trajectory, policy: str | None = None) -> list[Row]:
    """The rows of a trajectory, in the order written.

    A row grows while each prompt extends its exact past ids; else a new row begins, so under context
    compression every turn is a row. ``policy`` picks the calls of one policy. Demonstrations have
    temperature 1; a greedy baseline has no rows. Raises UsageError for calls that cannot be trained on: see ``check``.
    """
    if trajectory.source == GREEDY:
        return []
    demonstration = trajectory.source == DEMONSTRATION
    out: list[Row] = []
    for turn, call in calls(trajectory, policy):
        if not call.sample.tokens:
            continue
        check(call, trajectory)
        temperature = 1.0 if demonstration else call.request.temperature
        if not out or not out[-1].takes(call.request, temperature):
            out.append(Row(temperature))
        out[-1].extend(call, turn)
    return out


def calls(trajectory: Trajectory, policy: str | None = None) -> Iterator[tuple[int, Call]]:
    """Every call of ``policy`` (None: of any policy) with the turn it belongs to."""
    for index, turn in enumerate(trajectory.turns):
        for call in turn.action.calls:
            if policy in (None, call.policy):
                yield index, call


def check(call: Call, trajectory: Trajectory) -> None:
    """Raise UsageError unless the log-probs of ``call`` are those of the distribution sampled from (rule 6)."""
    request, sample, where = call.request, call.sample, f"trajectory {trajectory.id!r}"
    if not request.ids:
        raise UsageError(f"{where}: an empty prompt gives its first token no probability; send at least one id")
    if request.images:
        raise UsageError(f"{where}: a prompt holds images, and the learner reads token ids only")
    if trajectory.source == DEMONSTRATION:
        return
    if request.top_k != 0 or request.top_p != 1.0:
        raise UsageError(
            f"{where}: sampled with top_k={request.top_k}, top_p={request.top_p}; the kept set is not recorded, so "
            "its log-probs cannot be trained on; sample training episodes with top_k=0, top_p=1"
        )
    if not request.temperature > 0.0:
        raise UsageError(f"{where}: sampled at temperature {request.temperature}; train on temperatures above 0")
    if not len(sample.tokens) == len(sample.logps) == len(sample.versions):
        raise UsageError(
            f"{where}: {len(sample.tokens)} tokens, {len(sample.logps)} log-probs and {len(sample.versions)} versions;"
            " the sampler must give one of each a token"
        )
