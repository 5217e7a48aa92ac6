"""The static cache, and attention over it: tokens of many contexts pass through a model as one row without padding."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import local
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, Cache

from ...envs import UsageError

NAME = "turngym_slots"
KINDS = {"full_attention", "sliding_attention"}  # layers that this cache can serve
_now = local()  # the plan of the pass that this thread is in


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens ``start`` to ``stop`` of a pass continue the context of ``slot`` at its token ``begin``."""

    slot: int
    begin: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One pass of N tokens: first one of each of ``rows`` (slots, ascending), then the ``segments``."""

    cache: "SlotCache"
    slots: Tensor  # [N] where each token belongs
    places: Tensor  # [N] and its position there
    rows: Sequence[int]
    segments: Sequence[Segment]
    width: int  # of the longest context among the rows


class SlotCache(Cache):
    """Keys and values [S, L, H, D] a layer: S contexts of up to L tokens. L doubles as it must."""

    def __init__(self, slots: int) -> None:
        super().__init__(layers=[])
        self.slots, self.length = slots, 0
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def reserve(self, length: int) -> None:
        """Room for contexts of ``length`` tokens."""
        if length <= self.length:
            return
        self.length = max(2 * self.length, -(-length // 64) * 64)
        for held in (self.keys, self.values):
            for layer, old in enumerate(held):
                held[layer] = old.new_zeros(self.slots, self.length, *old.shape[2:])
                held[layer][:, : old.shape[1]] = old

    def copy(self, source: int, targets: list[int], count: int) -> None:
        """The first ``count`` tokens of ``source`` are now those of ``targets`` too."""
        for held in (*self.keys, *self.values):
            held[targets, :count] = held[source, :count]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Write [1, H, N, D] to the places of the present plan."""
        plan: Plan = _now.plan
        for held, states in ((self.keys, key_states), (self.values, value_states)):
            fresh = states[0].transpose(0, 1)
            if len(held) <= layer_idx:
                held.append(fresh.new_zeros(self.slots, self.length, *fresh.shape[1:]))
            held[layer_idx][plan.slots, plan.places] = fresh
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # unused: positions come with every pass


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention [1, N, H, D] of a pass's tokens, each to what its own slot holds up to itself."""
    if any(more.get(name) is not None for name in ("softcap", "s_aux", "position_bias")):
        raise UsageError(f"the torch sampler cannot serve {type(module).__name__}: its attention is of another kind")
    plan: Plan = _now.plan
    keys, values = plan.cache.keys[module.layer_idx], plan.cache.values[module.layer_idx]
    asked = query[0].transpose(0, 1)  # [N, H, D]
    out = torch.empty_like(asked)
    if plan.rows:
        out[: len(plan.rows)] = _rows(plan, asked[: len(plan.rows)], keys, values, scaling, sliding_window)
    for part in plan.segments:
        end = part.begin + part.stop - part.start
        seen = _seen(torch.arange(part.begin, end, device=query.device), end, sliding_window)
        out[part.start : part.stop] = scaled_dot_product_attention(
            query[:, :, part.start : part.stop],
            keys[part.slot, None, :end].transpose(1, 2),
            values[part.slot, None, :end].transpose(1, 2),
            attn_mask=seen,
            scale=scaling,
            enable_gqa=asked.shape[1] != keys.shape[2],
        )[0].transpose(0, 1)
    return out[None], None


def _rows(plan: Plan, asked: Tensor, keys: Tensor, values: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Attention [R, H, D] of one token in each of R slots."""
    rows, places = plan.rows, plan.places[: len(plan.rows)]
    span = rows[-1] + 1 - rows[0]
    index = plan.slots[: len(rows)]
    where: slice | Tensor = index
    if 2 * span <= 3 * len(rows):  # a view with idle rows in it is cheaper than a copy of keys and values
        where, index = slice(rows[0], rows[-1] + 1), index - rows[0]
        asked = asked.new_zeros(span, *asked.shape[1:]).index_copy(0, index, asked)
        places = places.new_zeros(span).index_copy(0, index, places)
    heads = keys.shape[2]
    # the queries of a group of heads share their keys: one product for all of them
    grouped = asked.reshape(len(asked), heads, -1, asked.shape[-1])
    out = scaled_dot_product_attention(
        grouped,
        keys[where, : plan.width].transpose(1, 2),
        values[where, : plan.width].transpose(1, 2),
        attn_mask=_seen(places, plan.width, window)[:, None, None],
        scale=scaling,
    ).reshape(asked.shape)
    return out[index] if isinstance(where, slice) else out


def _seen(places: Tensor, width: int, window: int | None) -> Tensor:
    """Bool [Q, width]: which tokens those at ``places`` [Q] may see."""
    column = torch.arange(width, device=places.device)
    seen = column <= places[:, None]
    return seen & (column > places[:, None] - window) if window else seen


@contextmanager
def planned(model: Any, plan: Plan) -> Iterator[None]:
    """Within, the model attends by ``plan``; outside it is as it was."""
    before, model.config._attn_implementation = model.config._attn_implementation, NAME
    _now.plan = plan
    try:
        yield
    finally:
        model.config._attn_implementation, _now.plan = before, None


def check(model: Any) -> None:
    """Raises UsageError for a model whose layers keep a state that cannot be cut back to a prefix."""
    other = set(getattr(model.config, "layer_types", None) or ()) - KINDS
    if other or not getattr(model, "_supports_attention_backend", False):
        what = f"layers of {sorted(other)}" if other else "an attention of its own"
        raise UsageError(f"the torch sampler serves models of full or sliding attention; this one has {what}")


AttentionInterface.register(NAME, attend)
