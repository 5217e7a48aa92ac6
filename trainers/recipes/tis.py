"""Truncated importance sampling between sampler and learner (Yao 2025; read in verl's core_algos.py)."""

from ..credit import GroupNorm
from ..estimator import Recipe, Update
from ..masks import Clip, Truncate
from ..reductions import token_mean
from ..terms import Surrogate


def tis(
    *, clip: float = 0.2, cap: float = 2.0, minibatches: int = 2, grad_clip: float = 1.0, decay: float = 0.5
) -> Recipe:
    """L = -mean over tokens of min(pi_prox/mu, cap) min(r A, clip(r, 1 - clip, 1 + clip) A), r = pi/pi_prox.

    pi_prox is the learner's policy at the start of the update, mu what the sampler says it sampled from.
    """
    return Recipe(
        terms=(Surrogate(mask=Clip(clip, clip), correction=Truncate(cap), reduction=token_mean),),
        credit=GroupNorm(ddof=1, eps=1e-4),
        update=Update(minibatches=minibatches, grad_clip=grad_clip, decay=decay),
    )
