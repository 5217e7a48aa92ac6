"""Rows that begin alike pass through the network once: the rows of a batch as prefix trees."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

_Ints = np.ndarray[Any, np.dtype[np.int64]]
NODES = 256  # of a tree: attention computes every pair of nodes, so that larger trees save less than they cost


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """U trees of up to N nodes, in which B rows of up to T tokens are paths from a root; a tree may have several."""

    ids: Tensor  # [U, N] a token a node, depth first, padded on the right
    depth: Tensor  # [U, N] the position of that token in its rows
    end: Tensor  # [U, N] the node that follows the last descendant
    sizes: tuple[int, ...]  # [U] nodes of each tree
    branches: bool  # if not, the trees are rows, and causal attention is right
    tree: Tensor  # [B] that each row lies in
    place: Tensor  # [B, T] each token's node in the flattened ids; meaningless for padding

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What attention adds, [U, 1, N, N]: 0 where a node sees itself or an ancestor, else -inf."""
        node = torch.arange(self.ids.shape[1], device=self.ids.device)
        seen = (node <= node[:, None]) & (node[:, None] < self.end[:, None])
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)[:, None]


@dataclass(slots=True)
class _Tree:
    ids: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    path: list[int] = field(default_factory=list)  # the nodes of the newest row

    def add(self, row: list[int], shared: int) -> None:
        """A row whose first ``shared`` tokens are those of the newest one."""
        self.leave(shared)
        self.path += range(len(self.ids), len(self.ids) + len(row) - shared)
        self.ids += row[shared:]
        self.depth += range(shared, len(row))
        self.end += [0] * (len(row) - shared)

    def leave(self, shared: int) -> None:
        """The nodes of the newest row beyond ``shared`` will have no more descendants."""
        for node in self.path[shared:]:
            self.end[node] = len(self.ids)
        del self.path[shared:]


def grow(ids: Tensor, lengths: Tensor, nodes: int) -> Forest:
    """Trees of at most ``nodes`` nodes from the first ``lengths`` [B] of ``ids`` [B, T].

    Rows are taken in the order of their tokens, so that each shares most with the one before it. A longer row has a
    tree to itself and to its own beginnings; with ``nodes`` 0 every row has.
    """
    sizes = lengths.cpu().numpy()
    rows = np.where(np.arange(ids.shape[1]) < sizes[:, None], ids.cpu().numpy(), 0)
    order = np.lexsort((sizes, *rows.T[::-1]))
    before, after = order[:-1], order[1:]
    differ = rows[before] != rows[after]
    common = np.where(differ.any(1), differ.argmax(1), rows.shape[1])
    common = np.minimum(common, np.minimum(sizes[before], sizes[after]))
    trees, tree, place = list[_Tree](), np.zeros(len(rows), dtype=np.int64), np.zeros(rows.shape, dtype=np.int64)
    for row, shared in zip(order.tolist(), [0, *common.tolist()][: len(order)], strict=True):
        length = int(sizes[row])
        grown = len(trees[-1].ids) if trees else -1
        if grown != shared and not 0 <= grown <= nodes - length + shared:
            if trees:
                trees[-1].leave(0)
            trees.append(_Tree())
            shared = 0
        trees[-1].add(rows[row, :length].tolist(), shared)
        tree[row], place[row, :length] = len(trees) - 1, trees[-1].path
    if trees:
        trees[-1].leave(0)
    return _forest(trees, tree, place, ids.device)


def _forest(trees: list[_Tree], tree: _Ints, place: _Ints, device: torch.device) -> Forest:
    count = max((len(t.ids) for t in trees), default=0)
    held = np.zeros((3, len(trees), count), dtype=np.int64)
    held[2] = np.arange(1, count + 1)  # padding sees itself alone
    for number, t in enumerate(trees):
        held[:, number, : len(t.ids)] = t.ids, t.depth, t.end
    branches = any(t.depth != [*range(len(t.ids))] for t in trees)
    found, rows, places = (torch.from_numpy(x).to(device) for x in (held, tree, place + tree[:, None] * count))
    return Forest(found[0], found[1], found[2], tuple(len(t.ids) for t in trees), branches, rows, places)
