"""WebAgent-R1 (arXiv 2505.16421): a behaviour-cloned warm-up, then M-GRPO on a binary reward at the end."""

from ..settings import Run
from .m_grpo import m_grpo


def webagent_r1() -> Run:
    """The main job; figures of the paper's own run (lr 1e-6, G = 4, clip norm 0.01) suit models of billions [P]."""
    return Run(recipe=m_grpo(low=0.2, high=0.28, clone=0.2))
