"""RLOO, REINFORCE with a leave-one-out baseline (arXiv 2402.14740; first in Kool et al. 2019)."""

from ..credit import LeaveOneOut
from ..estimator import Recipe, Update
from ..masks import keep
from ..reductions import FixedLength
from ..terms import Surrogate


def rloo(*, grad_clip: float = 1.0, decay: float = 0.5) -> Recipe:
    """L = -1/k sum_i (R_i - mean of the other R) log pi(tau_i), the trajectory as one action.

    The ratio stands for the log-probability, as in REINFORCE.
    """
    policy = Surrogate(mask=keep, reduction=FixedLength(1))
    return Recipe(terms=(policy,), credit=LeaveOneOut(), update=Update(grad_clip=grad_clip, decay=decay))
