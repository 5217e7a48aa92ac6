"""Words that the embedded sites share, and how a split's data is told from the others'."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Indices = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

ADJECTIVES = tuple(
    """amber antique blue bold brass bright brown ceramic classic clear compact copper cozy curved dark deep dotted
    elegant fancy flat fluffy fresh gentle glossy golden gray green heavy ivory large light linen long lunar marble
    matte mellow mini modern narrow navy oak olive orange pale pink plain polished purple quiet red round rustic sandy
    sharp silver simple slim small smooth soft solid square steel striped sturdy tall teal thick tiny velvet violet
    warm white wide wooden woven yellow""".split()
)
NOUNS = tuple(
    """apron backpack ball basin basket bench blanket blender bottle bowl box broom brush bucket cabinet candle canvas
    carpet chair clock coat comb couch crate cup curtain cushion desk dish doll drawer drum easel fan flask folder fork
    frame glove guitar hammer hat helmet jacket jar kettle kite knife ladder lamp lantern lock mat mirror mop mug napkin
    notebook oven pan pen piano pillow pitcher plate pot quilt racket rake robe rope rug saddle sandal scarf shelf shirt
    shoe shovel skate soap sofa spade spoon stool stove table teapot tent tie towel tray trunk umbrella vase wallet
    watch whistle wrench""".split()
)


_ORDER = np.array([0, 0, 0, 1, 2])  # of five pairs, three train, one validates, one tests


def pairs(first: ArrayLike, second: ArrayLike, split: Split) -> Indices:
    """Which of the words numbered ``first`` the sites of a split may join to which of ``second``: [N, 2] numbers.

    Every pair of words belongs to one split, so that no two splits show a thing of the same name.
    """
    a, b = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    rows, columns = np.nonzero(_ORDER[(a[:, None] + 2 * b) % 5] == SPLITS.index(split))
    return np.stack([a[rows], b[columns]], axis=1)
