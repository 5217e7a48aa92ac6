"""Published algorithms, each a choice of parts."""

from collections.abc import Callable
from functools import partial

from ..estimator import Recipe
from ..settings import Run
from .cispo import cispo
from .clone import clone
from .dapo import dapo
from .decoupled import decoupled
from .dr_grpo import dr_grpo
from .dual_clip import dual_clip
from .grpo import grpo
from .gspo import gspo
from .loop import loop
from .m_grpo import m_grpo
from .reinforce import reinforce
from .reinforce_pp import reinforce_pp
from .rloo import rloo
from .sapo import sapo
from .tis import tis
from .webagent_r1 import webagent_r1, webagent_r1_async, webagent_r1_cot, webagent_r1_zero

_OWN = (cispo, dapo, decoupled, dr_grpo, dual_clip, grpo, gspo, loop, reinforce, reinforce_pp, rloo, sapo, tis)
ALGORITHMS: dict[str, Callable[[], Recipe]] = {make.__name__: make for make in _OWN}
ALGORITHMS["m_grpo"] = partial(m_grpo, clone=0.0)  # like the others it learns from no demonstrations


def plain(name: str) -> Run:
    """The main job by another algorithm: the same warm-up, then its loss alone, with no rehearsal of demonstrations."""
    return Run(name=name, recipe=ALGORITHMS[name](), out=f"runs/{name}", rehearsal=0)


RUNS: dict[str, Callable[[], Run]] = {  # what ``turngym train`` knows
    run.__name__: run for run in (webagent_r1, webagent_r1_zero, webagent_r1_cot, webagent_r1_async)
} | {name: partial(plain, name) for name in ALGORITHMS}

__all__ = [
    "ALGORITHMS",
    "RUNS",
    "cispo",
    "clone",
    "dapo",
    "decoupled",
    "dr_grpo",
    "dual_clip",
    "grpo",
    "gspo",
    "loop",
    "m_grpo",
    "plain",
    "reinforce",
    "reinforce_pp",
    "rloo",
    "sapo",
    "tis",
    "webagent_r1",
    "webagent_r1_async",
    "webagent_r1_cot",
    "webagent_r1_zero",
]
