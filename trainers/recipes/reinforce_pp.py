"""REINFORCE++ (arXiv 2501.03262): PPO's clip, no critic, advantages normalised over the whole batch."""

from ..credit import BatchNorm
from ..estimator import Recipe, Update
from ..masks import Clip
from ..reductions import token_mean
from ..terms import Surrogate


def reinforce_pp(*, clip: float = 0.2, minibatches: int = 2, grad_clip: float = 1.0, decay: float = 0.5) -> Recipe:
    """L = -mean over tokens of min(r A_i, clip(r, 1 - clip, 1 + clip) A_i), A_i = (R_i - batch mean)/batch std.

    Mean and std are over trajectories here, whatever their lengths; the paper's are over tokens. Its KL penalty in
    the reward is left out.
    """
    return Recipe(
        terms=(Surrogate(mask=Clip(clip, clip), reduction=token_mean),),
        credit=BatchNorm(),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
