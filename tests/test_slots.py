"""Which slots attend together, and what attention over them gives."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents.samplers.slots import CALL, Plan, Segment, SlotCache, attend, blocks, planned

CPU = torch.device("cpu")
HEADS, GROUPS, SIZE, SLOTS = 2, 2, 4, 8  # heads of keys, queries for each, width of a head


@given(st.dictionaries(st.integers(0, 40), st.integers(1, 2000), max_size=20))
def test_blocks_are_all_slots_once_and_read_little_in_vain(sizes: dict[int, int]) -> None:
    slots = sorted(sizes)
    found = blocks(slots, [sizes[s] for s in slots], CPU)
    assert [slot for b in found for slot in (b.index + b.first).tolist()] == slots
    assert [place for b in found for place in range(b.start, b.stop)] == list(range(len(slots)))
    for block in found:
        mine = slots[block.start : block.stop]
        assert (block.first, block.last, block.width) == (mine[0], mine[-1], max(sizes[s] for s in mine))
        assert block.places.tolist() == [sizes.get(s, 1) - 1 for s in range(mine[0], mine[-1] + 1)]
        vain = block.width * len(block.places) - sum(sizes[s] for s in mine)
        assert vain <= CALL["cpu"] * (len(mine) - 1)


def test_a_long_context_stands_alone_among_short_ones() -> None:
    found = blocks([0, 1, 2, 3, 4], [50, 60, 1500, 40, 50], CPU)
    assert [(b.first, b.last) for b in found] == [(0, 1), (2, 2), (3, 4)]


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("layer", [0, 1])
def test_attention_is_that_of_each_context_alone(window: int | None, layer: int) -> None:
    generator = torch.Generator().manual_seed(0)
    cache = SlotCache(SLOTS)
    cache.reserve(20)
    cache.keys, cache.values = (
        [torch.randn(SLOTS, HEADS, cache.length, SIZE, generator=generator) for _ in range(2)] for _ in range(2)
    )
    sizes, segments = {1: 5, 2: 9, 6: 7}, [Segment(4, 2, 3, 8), Segment(5, 0, 8, 11)]
    places = [s - 1 for s in sizes.values()] + [*range(2, 7), *range(3)]
    slots = [*sizes, *[4] * 5, *[5] * 3]
    plan = Plan(cache, torch.tensor(slots), torch.tensor(places), blocks([*sizes], [*sizes.values()], CPU), segments, 2)
    query = torch.randn(1, HEADS * GROUPS, len(slots), SIZE, generator=generator)
    with planned(SimpleNamespace(config=SimpleNamespace(_attn_implementation="")), plan):
        module = SimpleNamespace(layer_idx=layer)
        out = attend(module, query, query, query, None, scaling=0.5, sliding_window=window)[0][0]  # [N, H, D]
    used = [*range(3), 7, 10] if layer else range(11)  # of the last layer only ends of contexts are used
    for token in used:
        slot, end = slots[token], places[token] + 1
        begin = max(0, end - window) if window else 0
        for head in range(HEADS * GROUPS):
            keys, values = (held[layer][slot, head // GROUPS, begin:end] for held in (cache.keys, cache.values))
            weights = (0.5 * keys @ query[0, head, token]).softmax(0)
            torch.testing.assert_close(out[token, head], weights @ values)
