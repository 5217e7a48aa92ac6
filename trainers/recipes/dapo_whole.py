"""DAPO whole (arXiv 2503.14476): its loss, and its dynamic sampling (eq. 11), which the loss alone is without."""

from ..settings import Run
from .dapo import dapo


def dapo_whole() -> Run:
    """Groups of equal returns are played for nothing, and replaced by others."""
    return Run(name="dapo_whole", recipe=dapo(), out="runs/dapo_whole", rehearsal=0, planner="resample")
