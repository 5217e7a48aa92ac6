"""Behaviour cloning: the warm-up of WebAgent-R1 (arXiv 2505.16421)."""

from ..estimator import Recipe, Update
from ..terms import Clone


def clone(*, epochs: int = 1, minibatches: int = 1, grad_clip: float = 1.0) -> Recipe:
    """L_BC = -E log pi(a_t | h_t) [S], as a mean over the tokens of the actions [D]."""
    return Recipe(terms=(Clone(),), update=Update(epochs=epochs, minibatches=minibatches, grad_clip=grad_clip))
