"""LOOP (arXiv 2502.01600): PPO's clip with a leave-one-out baseline, no value network, for agents of many turns."""

from ..credit import LeaveOneOut
from ..estimator import Recipe, Update
from ..masks import Clip
from ..reductions import token_mean
from ..terms import Surrogate


def loop(*, clip: float = 0.2, minibatches: int = 2, grad_clip: float = 1.0, decay: float = 0.5) -> Recipe:
    """L = -mean over tokens of min(r A_i, clip(r, 1 - clip, 1 + clip) A_i), A_i = R_i - mean of the others.

    The ratio is a token's own, the unit that the paper found best; its advantages are not divided by a std. That tokens
    weigh the same in long and short trajectories is ours [D].
    """
    return Recipe(
        terms=(Surrogate(mask=Clip(clip, clip), reduction=token_mean),),
        credit=LeaveOneOut(),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
