"""Words are gone: trajectories become tensors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NewType

import torch
from torch import Tensor

from ..envs import UsageError
from .rollout import Trajectory
from .rows import UNKNOWN, calls, rows

LossMask = NewType("LossMask", Tensor)
"""Bool [B, T]: the policy wrote the token, so it may carry loss."""
AttentionMask = NewType("AttentionMask", Tensor)
"""Bool [B, T]: the token is there, so it may be read; false only for the padding on the right."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B rows of T tokens from N trajectories; a trajectory whose history changed has several rows.

    Credit, weight and statistics belong to trajectories, never to rows (rule 5). Rows of trajectories that
    failed are kept with weight 0 (rule 3).
    """

    ids: Tensor  # [B, T] padded on the right
    loss_mask: LossMask  # [B, T]
    attention_mask: AttentionMask  # [B, T]
    turn: Tensor  # [B, T] the turn of its trajectory, counted from 0
    behaviour: Tensor  # [B, T] log-probability under the policy that wrote it; 0 where not written
    versions: Tensor  # [B, T] weights that wrote it; UNKNOWN where not written
    advantage: Tensor  # [B, T]
    owner: Tensor  # [B] the row's trajectory
    temperature: Tensor  # [B]
    reward: Tensor  # [N] undiscounted return
    group: Tensor  # [N]
    scored: Tensor  # [N] bool: the return means something
    source: tuple[str, ...]  # [N]
    weights: Mapping[str, Tensor] = field(default_factory=dict)  # term name -> [B, T]
    references: Mapping[str, Tensor] = field(default_factory=dict)  # policy name -> log-probability [B, T]

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row without its padding, [B]."""
        return self.attention_mask.sum(1)

    def counted(self, sources: Iterable[str]) -> Tensor:
        """Bool [N]: scored trajectories of these sources; only they enter statistics and denominators."""
        chosen = set(sources)
        return self.scored & self.scored.new_tensor([s in chosen for s in self.source])

    def written(self, sources: Iterable[str]) -> Tensor:
        """Bool [B, T]: tokens that the policy wrote in ``counted(sources)``."""
        return self.loss_mask & self.counted(sources)[self.owner][:, None]

    def take(self, index: Tensor) -> "Batch":
        """The rows ``index`` (integers or bools), cut to the longest of them; the trajectories stay."""
        width = int(self.lengths[index].max()) if self.lengths[index].numel() else 0
        return self._each_row(lambda x: x[index] if x.ndim == 1 else x[index, :width])

    def select(self, keep: Tensor) -> "Batch":
        """The trajectories ``keep`` (bool [N]) with their rows."""
        part = self.take(keep[self.owner])
        return replace(
            part,
            owner=(keep.cumsum(0) - 1)[part.owner],
            reward=self.reward[keep],
            group=self.group[keep],
            scored=self.scored[keep],
            source=tuple(s for s, k in zip(self.source, keep.tolist(), strict=True) if k),
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Batch":
        """On ``device``, with real numbers of ``dtype``."""

        def move(x: Tensor) -> Tensor:
            return x.to(device=device, dtype=dtype if x.is_floating_point() else None)

        return replace(
            self._each_row(move),
            reward=move(self.reward),
            group=move(self.group),
            scored=move(self.scored),
        )

    def _each_row(self, f: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            ids=f(self.ids),
            loss_mask=LossMask(f(self.loss_mask)),
            attention_mask=AttentionMask(f(self.attention_mask)),
            turn=f(self.turn),
            behaviour=f(self.behaviour),
            versions=f(self.versions),
            advantage=f(self.advantage),
            owner=f(self.owner),
            temperature=f(self.temperature),
            weights={k: f(v) for k, v in self.weights.items()},
            references={k: f(v) for k, v in self.references.items()},
        )


def collate(trajectories: Sequence[Trajectory], policy: str | None = None) -> Batch:
    """Trajectories as one Batch, sorted by (group, member, seat) (rule 10); float32, weights not yet set.

    Args:
        trajectories: N of them, of any source and outcome.
        policy: train the calls of this policy only; None if all calls are of one policy.

    Raises UsageError if there are no trajectories, if ``policy`` is None and several policies spoke, or if a
    call cannot be trained on: top-k, top-p, temperature 0, images, missing log-probs.
    """
    if not trajectories:
        raise UsageError("no trajectories to collate")
    played = sorted(trajectories, key=lambda t: (t.group, t.member, t.seat))
    names = sorted({call.policy for t in played for _, call in calls(t)})
    if policy is None and len(names) > 1:
        raise UsageError(f"calls of several policies, {names}: say which one to train, collate(..., policy=...)")
    if policy is not None and policy not in names:
        raise UsageError(f"no call of policy {policy!r}; the policies that spoke are {names}")
    made = [(n, row) for n, t in enumerate(played) for row in rows(t, policy)]
    lines = [row for _, row in made]
    return Batch(
        ids=_pad([r.ids for r in lines], 0, torch.long),
        loss_mask=LossMask(_pad([r.written for r in lines], False, torch.bool)),
        attention_mask=AttentionMask(_pad([[True] * len(r.ids) for r in lines], False, torch.bool)),
        turn=_pad([r.turn for r in lines], 0, torch.long),
        behaviour=_pad([r.behaviour for r in lines], 0.0, torch.float32),
        versions=_pad([r.versions for r in lines], UNKNOWN, torch.long),
        advantage=_pad([[0.0] * len(r.ids) for r in lines], 0.0, torch.float32),
        owner=torch.tensor([n for n, _ in made], dtype=torch.long),
        temperature=torch.tensor([r.temperature for r in lines], dtype=torch.float32),
        reward=torch.tensor([t.reward for t in played], dtype=torch.float32),
        group=torch.tensor([t.group for t in played], dtype=torch.long),
        scored=torch.tensor([t.scored for t in played]),
        source=tuple(t.source for t in played),
    )


def _pad(lines: Sequence[Sequence[float]], fill: float, dtype: torch.dtype) -> Tensor:
    """B lines as one tensor [B, T], filled on the right."""
    lengths = torch.tensor([len(line) for line in lines], dtype=torch.long)
    out = torch.full((len(lines), max(lengths.tolist(), default=0)), fill, dtype=dtype)
    out[torch.arange(out.shape[1]) < lengths[:, None]] = torch.tensor([*chain.from_iterable(lines)], dtype=dtype)
    return out
