"""A forest holds every row as a path, and a node sees its ancestors alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from turngym.trainers.forest import Forest, grow

rows = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12)


def planted(lines: list[list[int]], nodes: int) -> Forest:
    width = max(map(len, lines))
    ids = torch.tensor([line + [7 + i] * (width - len(line)) for i, line in enumerate(lines)])  # what is left there
    return grow(ids, torch.tensor([len(line) for line in lines]), nodes)


@given(lines=rows, nodes=st.integers(0, 30))
def test_rows_are_paths_whose_nodes_see_each_other_and_nothing_else(lines, nodes) -> None:
    forest = planted(lines, nodes)
    ids, depth, mask = forest.ids.flatten(), forest.depth.flatten(), forest.mask(torch.float32)
    width = forest.ids.shape[1]
    for line, tree, place in zip(lines, forest.tree.tolist(), forest.place, strict=True):
        path = place[: len(line)]
        assert ids[path].tolist() == line
        assert depth[path].tolist() == list(range(len(line)))
        inside = path - tree * width
        for position, node in enumerate(inside.tolist()):
            assert set((mask[tree, 0, node] == 0).nonzero()[:, 0].tolist()) == set(inside[: position + 1].tolist())


@given(lines=rows, nodes=st.integers(0, 30))
def test_trees_keep_to_their_size(lines, nodes) -> None:
    forest = planted(lines, nodes)
    longest = [
        max(len(line) for line, of in zip(lines, forest.tree.tolist(), strict=True) if of == u)
        for u in range(len(forest.sizes))
    ]
    assert all(size <= nodes or size == row for size, row in zip(forest.sizes, longest, strict=True))


@given(lines=rows)
def test_with_room_every_shared_beginning_passes_once(lines) -> None:
    forest = planted(lines, 1000)
    assert forest.sizes == (len({tuple(line[: i + 1]) for line in lines for i in range(len(line))}),)


@given(lines=rows)
def test_without_trees_equal_rows_and_beginnings_of_rows_pass_once(lines) -> None:
    forest = planted(lines, 0)
    assert not forest.branches
    alone = {tuple(line) for line in lines}
    assert len(forest.sizes) <= len(alone)
    assert planted([[1, 2], [1, 2], [1]], 0).sizes == (2,)


def test_no_position_is_beyond_the_longest_row() -> None:
    forest = planted([[1, 2, 3], [1, 2, 4], [1, 2, 5], [5]], 5)
    assert forest.ids.shape == (2, 5) and forest.depth.max() == 2


def test_no_rows_no_trees() -> None:
    forest = grow(torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, dtype=torch.long), 8)
    assert forest.sizes == () and forest.place.shape == (0, 3)
