"""REINFORCE (Williams 1992), with the mean return of the batch as its baseline."""

from ..credit import BatchMean
from ..estimator import Recipe, Update
from ..masks import keep
from ..reductions import FixedLength
from ..terms import Surrogate


def reinforce(*, grad_clip: float = 1.0, decay: float = 0.5) -> Recipe:
    """L = -E [(R - b) sum_t log pi(a_t | h_t)], a sum over the tokens of a trajectory.

    The ratio stands for the log-probability: at the policy that played, both have the same gradient. Off that policy
    each token has its own ratio.
    """
    policy = Surrogate(mask=keep, reduction=FixedLength(1))
    return Recipe(terms=(policy,), credit=BatchMean(), update=Update(grad_clip=grad_clip, decay=decay))
