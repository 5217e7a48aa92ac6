"""The static cache, and attention over it: tokens of many contexts pass through a model as one row without padding."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import local
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, Cache

from ...envs import UsageError

NAME = "turngym_slots"
CALL = {"cpu": 256}  # tokens that attention reads in the time of one more call, 65536 elsewhere
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
class Block:
    """Tokens ``start`` to ``stop`` of a pass are the last ones of contexts in slots ``first`` to ``last``."""

    first: int
    last: int
    start: int
    stop: int
    index: Tensor  # [stop - start] their slots, counted from ``first``
    places: Tensor  # [last + 1 - first] the last token of each slot, 0 of those between that are idle
    width: int  # of the longest of these contexts


@dataclass(frozen=True, slots=True)
class Plan:
    """One pass of N tokens: first the ``blocks``, whose slots ascend, then the ``segments``."""

    cache: "SlotCache"
    slots: Tensor  # [N] where each token belongs
    places: Tensor  # [N] and its position there
    blocks: Sequence[Block]
    segments: Sequence[Segment]
    layers: int  # of the model
    masks: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)  # layers of one window share them


def blocks(slots: Sequence[int], sizes: Sequence[int], device: torch.device) -> list[Block]:
    """Neighbours among ``slots`` (ascending) together, while the tokens read in vain cost less than another call."""
    found, start, call = list[Block](), 0, CALL.get(device.type, 65536)
    while start < len(slots):
        first, width, stop = slots[start], sizes[start], start + 1
        while stop < len(slots):
            wider = max(width, sizes[stop])
            before, joined = (slots[stop - 1] + 1 - first) * width, (slots[stop] + 1 - first) * wider
            if joined - before - sizes[stop] > call:
                break
            width, stop = wider, stop + 1
        index = torch.tensor([slot - first for slot in slots[start:stop]])
        places = index.new_zeros(int(index[-1]) + 1).index_copy_(0, index, torch.tensor(sizes[start:stop]) - 1)
        found.append(Block(first, slots[stop - 1], start, stop, index.to(device), places.to(device), width))
        start = stop
    return found


class SlotCache(Cache):
    """Keys and values [S, H, L, D] a layer: S contexts of up to L tokens. L doubles as it must."""

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
                held[layer] = old.new_zeros(*old.shape[:2], self.length, old.shape[3])
                held[layer][:, :, : old.shape[2]] = old

    def copy(self, source: int, targets: list[int], count: int) -> None:
        """The first ``count`` tokens of ``source`` are now those of ``targets`` too."""
        for held in (*self.keys, *self.values):
            held[targets, :, :count] = held[source, :, :count]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Write [1, H, N, D] to the places of the present plan."""
        plan: Plan = _now.plan
        for held, states in ((self.keys, key_states), (self.values, value_states)):
            fresh = states[0].transpose(0, 1)
            if len(held) <= layer_idx:
                held.append(fresh.new_zeros(self.slots, fresh.shape[1], self.length, fresh.shape[2]))
            held[layer_idx][plan.slots, :, plan.places] = fresh
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
    out = torch.zeros_like(asked)
    for block in plan.blocks:
        out[block.start : block.stop] = _block(plan, block, asked, keys, values, scaling, sliding_window)
    deepest = module.layer_idx + 1 == plan.layers
    for part in plan.segments:
        end = part.begin + part.stop - part.start
        start = part.stop - 1 if deepest else part.start  # what other tokens attend to there reaches no logits
        out[start : part.stop] = scaled_dot_product_attention(
            query[:, :, start : part.stop],
            keys[part.slot, None, :, :end],
            values[part.slot, None, :, :end],
            attn_mask=_mask(plan, start, plan.places[start : part.stop], end, sliding_window, query.dtype),
            scale=scaling,
            enable_gqa=asked.shape[1] != keys.shape[1],
        )[0].transpose(0, 1)
    return out[None], None


def _block(plan: Plan, block: Block, asked: Tensor, keys: Tensor, values: Tensor, scaling: Any, window: Any) -> Tensor:
    """Attention [R, H, D] of one token in each of R slots; idle slots between them are read too and left out."""
    asked = asked[block.start : block.stop]
    idle = len(block.places) > len(asked)
    if idle:
        asked = asked.new_zeros(len(block.places), *asked.shape[1:]).index_copy_(0, block.index, asked)
    slots = slice(block.first, block.last + 1)
    out = scaled_dot_product_attention(
        asked.reshape(len(asked), keys.shape[1], -1, asked.shape[-1]),  # heads that share keys: one product for all
        keys[slots, :, : block.width],
        values[slots, :, : block.width],
        attn_mask=_mask(plan, block.start, block.places, block.width, window, asked.dtype)[:, None, None],
        scale=scaling,
    ).reshape(asked.shape)
    return out[block.index] if idle else out


def _mask(plan: Plan, start: int, places: Tensor, width: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """[Q, width]: 0 where tokens at ``places`` [Q] may see, else -inf."""
    if (start, window) not in plan.masks:
        column = torch.arange(width, device=places.device)
        hidden = column > places[:, None]
        if window:
            hidden |= column <= places[:, None] - window
        zeros = torch.zeros(hidden.shape, dtype=dtype, device=places.device)
        plan.masks[start, window] = zeros.masked_fill_(hidden, -torch.inf)
    return plan.masks[start, window]


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
