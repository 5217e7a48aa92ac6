"""GSPO (arXiv 2507.18071, eq. 5 to 7), and GSPO-token (eq. 13 and 14)."""

from ..credit import GroupNorm
from ..estimator import Recipe, Update
from ..masks import Clip, Through, geometric
from ..reductions import sequence_mean
from ..terms import Surrogate


def gspo(
    *,
    low: float = 3e-4,
    high: float = 4e-4,
    by_token: bool = False,
    minibatches: int = 4,
    grad_clip: float = 1.0,
    decay: float = 0.5,
) -> Recipe:
    """L = -1/G sum_i min(s_i A_i, clip(s_i, 1 - low, 1 + high) A_i), s_i = (pi(o_i)/mu(o_i))^(1/|o_i|).

    Bounds and four minibatches are the paper's (section 5.1, as TRL's paper index gives them). ``by_token`` takes the
    value of s_i and the gradient of each token's own ratio: the same gradient while a trajectory has one advantage,
    another with a credit by turn or token.
    """
    unit = Through(geometric) if by_token else geometric
    return Recipe(
        terms=(Surrogate(mask=Clip(low, high), unit=unit, reduction=sequence_mean),),
        credit=GroupNorm(ddof=1, eps=1e-4),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
