"""Decoupled PPO (arXiv 2110.00641), as asynchronous RL uses it (AReaL, arXiv 2505.24298)."""

import math

from ..credit import GroupNorm
from ..estimator import Recipe, Update
from ..masks import Clip, Truncate
from ..reductions import token_mean
from ..terms import Surrogate


def decoupled(*, clip: float = 0.2, minibatches: int = 2, grad_clip: float = 1.0, decay: float = 0.5) -> Recipe:
    """L = -mean over tokens of (pi_prox/mu) min(r A, clip(r, 1 - clip, 1 + clip) A), r = pi/pi_prox.

    The trust region is around pi_prox, the policy at the start of the update, whoever wrote the tokens.
    """
    return Recipe(
        terms=(Surrogate(mask=Clip(clip, clip), correction=Truncate(math.inf), reduction=token_mean),),
        credit=GroupNorm(ddof=1, eps=1e-4),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
