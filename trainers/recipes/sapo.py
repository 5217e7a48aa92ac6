"""SAPO, soft adaptive policy optimisation (arXiv 2511.20347); read in TRL's GRPOTrainer and its paper index."""

from ..credit import GroupNorm
from ..estimator import Recipe, Update
from ..masks import Soft
from ..reductions import sequence_mean
from ..terms import Surrogate


def sapo(
    *, good: float = 1.0, bad: float = 1.05, minibatches: int = 2, grad_clip: float = 1.0, decay: float = 0.5
) -> Recipe:
    """L = -1/G sum_i 1/|o_i| sum_t f(r) A_i, f(r) = 4/t sigmoid(t (r - 1)), t = good if A_i > 0, else bad."""
    return Recipe(
        terms=(Surrogate(mask=Soft(good, bad), reduction=sequence_mean),),
        credit=GroupNorm(ddof=1, eps=1e-4),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
