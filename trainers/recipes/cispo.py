"""CISPO (MiniMax-M1, arXiv 2506.13585, eq. 4 and 5)."""

from ..credit import GroupNorm
from ..estimator import Recipe, Update
from ..masks import Cap
from ..reductions import token_mean
from ..terms import Surrogate


def cispo(*, high: float = 5.0, minibatches: int = 2, grad_clip: float = 1.0, decay: float = 0.5) -> Recipe:
    """L = -1/(sum_i |o_i|) sum_i sum_t sg(min(r, high)) A_i log pi(o_it), A_i = (r_i - mean)/std.

    The paper bounds the weight from above only and its value is not known to us; 5.0 is ms-swift's default.
    """
    return Recipe(
        terms=(Surrogate(mask=Cap(high=high), reduction=token_mean),),
        credit=GroupNorm(ddof=1, eps=1e-4),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
