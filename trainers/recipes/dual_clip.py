"""Dual-clip PPO (arXiv 1912.09729) on group-normalised returns."""

from ..credit import GroupNorm
from ..estimator import Recipe, Update
from ..masks import Clip
from ..reductions import token_mean
from ..terms import Surrogate


def dual_clip(
    *, clip: float = 0.2, dual: float = 3.0, minibatches: int = 2, grad_clip: float = 1.0, decay: float = 0.5
) -> Recipe:
    """L = -mean of min(r A, clip(r) A) where A >= 0, of max(min(r A, clip(r) A), dual A) where A < 0."""
    return Recipe(
        terms=(Surrogate(mask=Clip(clip, clip, dual=dual), reduction=token_mean),),
        credit=GroupNorm(ddof=1, eps=1e-4),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
