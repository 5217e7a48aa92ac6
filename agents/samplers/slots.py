"""The static cache: one tensor a layer holds keys and values of every slot, each row at its own position."""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from ...envs import UsageError

KINDS = ("full_attention", "sliding_attention")  # layers that this cache can serve


class SlotCache(Cache):
    """Keys and values [S, L, H, D] a layer. A forward pass reads and writes the slots that ``aim`` named before it.

    What lies beyond a slot's cached tokens is never read, so the padding of a shorter row may be written there.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(layers=[])
        self.slots, self.length = slots, 0
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._rows: slice | Tensor = slice(0)
        self._index = self._places = torch.empty(0, dtype=torch.long)
        self._width = 0

    def aim(self, rows: list[int], places: Tensor, width: int) -> None:
        """The next pass is of slots ``rows``, its tokens at ``places`` [R, Q]; it reads the first ``width``."""
        self.reserve(int(places.max()) + 1)
        self._index = torch.tensor(rows, device=places.device)[:, None]
        # a view where the rows lie side by side: copying keys and values costs more than the pass itself
        self._rows = slice(rows[0], rows[-1] + 1) if rows == [*range(rows[0], rows[-1] + 1)] else self._index[:, 0]
        self._places, self._width = places, width

    def reserve(self, length: int) -> None:
        """Room for contexts of ``length`` tokens; doubles, so that growing costs little in all."""
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
        """Write [R, H, Q, D] and return all that the rows hold, [R, H, width, D]."""
        return (
            self._put(self.keys, layer_idx, key_states),
            self._put(self.values, layer_idx, value_states),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # unused: positions and masks come with every pass

    def _put(self, held: list[Tensor], layer: int, states: Tensor) -> Tensor:
        fresh = states.transpose(1, 2)
        if len(held) <= layer:
            held.append(fresh.new_zeros(self.slots, self.length, *fresh.shape[2:]))
        held[layer][self._index, self._places] = fresh
        return held[layer][self._rows, : self._width].transpose(1, 2)


def masks(config: Any, places: Tensor, width: int, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """What a token at ``places`` [R, Q] may see of ``width`` tokens: 0 or -inf [R, 1, Q, width], by kind of layer."""
    column = torch.arange(width, device=places.device)
    hidden = column > places[:, None, :, None]
    lowest = torch.finfo(dtype).min
    full = torch.zeros(hidden.shape, dtype=dtype, device=places.device).masked_fill_(hidden, lowest)
    kinds, window = set(getattr(config, "layer_types", None) or ()), getattr(config, "sliding_window", None)
    if not window or kinds == {"full_attention"}:
        return full
    narrow = full.masked_fill(column <= places[:, None, :, None] - window, lowest)
    return {"full_attention": full, "sliding_attention": narrow} if kinds else narrow


def check(config: Any) -> None:
    """Raises UsageError for a model whose layers keep a state that cannot be cut back to a prefix."""
    other = set(getattr(config, "layer_types", None) or ()) - set(KINDS)
    if other:
        raise UsageError(
            f"the torch sampler serves models of full or sliding attention; this one has layers of {sorted(other)}"
        )
