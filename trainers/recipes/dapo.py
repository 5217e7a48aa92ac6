"""DAPO's loss (arXiv 2503.14476, eq. 8): clip higher, and a mean over tokens; its sampling is not part of the loss."""

from ..credit import GroupNorm
from ..estimator import Recipe, Update
from ..masks import Clip
from ..reductions import token_mean
from ..terms import Surrogate


def dapo(
    *,
    low: float = 0.2,
    high: float = 0.28,
    minibatches: int = 2,
    grad_clip: float = 1.0,
    decay: float = 0.5,
) -> Recipe:
    """L = -1/(sum_i |o_i|) sum_i sum_t min(r A_i, clip(r, 1 - low, 1 + high) A_i), A_i = (r_i - mean)/std."""
    return Recipe(
        terms=(Surrogate(mask=Clip(low, high), reduction=token_mean),),
        credit=GroupNorm(ddof=1, eps=1e-4),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
