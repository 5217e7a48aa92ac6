"""Dr. GRPO, GRPO without its two biases (arXiv 2503.20783, section 3)."""

from ..credit import GroupMean
from ..estimator import Recipe, Update
from ..masks import Clip
from ..reductions import FixedLength
from ..terms import Surrogate


def dr_grpo(
    *, clip: float = 0.2, length: int = 64, minibatches: int = 2, grad_clip: float = 1.0, decay: float = 0.5
) -> Recipe:
    """L = -1/G sum_i 1/length sum_t min(r A_i, clip(r) A_i), A_i = r_i - mean.

    No division by a trajectory's own length and none by the std; ``length`` is any constant, which
    scales the learning rate alone; the released code takes the most tokens that a response may have.
    """
    policy = Surrogate(mask=Clip(clip, clip), reduction=FixedLength(length))
    return Recipe(
        terms=(policy,),
        credit=GroupMean(),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
