"""Published algorithms, each a choice of parts."""

from collections.abc import Callable
from functools import partial

from ..estimator import Recipe
from ..rows import DEMONSTRATION
from ..settings import Run
from .ar3po import ar3po, ar3po_whole
from .archer import archer
from .asymre import asymre
from .bapo import bapo
from .bnpo import bnpo
from .chord import chord
from .cispo import cispo
from .clone import clone
from .dapo import dapo
from .dapo_whole import dapo_whole
from .decoupled import decoupled
from .dr_grpo import dr_grpo
from .dual_clip import dual_clip
from .gigpo import gigpo
from .grpo import grpo
from .gspo import gspo
from .hpt import hpt
from .loop import loop
from .lp_reg import lp_reg
from .m_grpo import m_grpo
from .mdpo import mdpo
from .nft import nft
from .opmd import opmd
from .p3o import p3o
from .poise import poise
from .ppo import ppo
from .ppo_max import ppo_max
from .reinforce import reinforce
from .reinforce_pp import reinforce_pp
from .remax import remax
from .rloo import rloo
from .sapo import sapo
from .spo import spo
from .tis import tis
from .webagent_r1 import webagent_r1, webagent_r1_async, webagent_r1_cot, webagent_r1_zero

_OWN = (
    ar3po, archer, asymre, bapo, bnpo, chord, cispo, dapo, decoupled, dr_grpo, dual_clip, gigpo, grpo, gspo, hpt, loop,
    lp_reg, mdpo, nft, opmd, p3o, poise, ppo, ppo_max, reinforce, reinforce_pp, remax, rloo, sapo, spo, tis,
)  # fmt: skip
ALGORITHMS: dict[str, Callable[[], Recipe]] = {make.__name__: make for make in _OWN}
ALGORITHMS["m_grpo"] = partial(m_grpo, clone=0.0)  # like most of the others it learns from no demonstrations


def plain(name: str) -> Run:
    """The main job by another algorithm: the same warm-up, then its loss alone.

    Demonstrations are rehearsed where the algorithm itself learns from them.
    """
    recipe = ALGORITHMS[name]()
    rehearsal = Run.rehearsal if DEMONSTRATION in recipe.sources else 0
    return Run(name=name, recipe=recipe, out=f"runs/{name}", rehearsal=rehearsal)


RUNS: dict[str, Callable[[], Run]] = {  # what ``turngym train`` knows
    run.__name__: run for run in (webagent_r1, webagent_r1_zero, webagent_r1_cot, webagent_r1_async, dapo_whole)
} | {name: partial(plain, name) for name in ALGORITHMS}
RUNS["ar3po"] = ar3po_whole

__all__ = [
    "ALGORITHMS",
    "RUNS",
    "ar3po",
    "archer",
    "asymre",
    "bapo",
    "bnpo",
    "chord",
    "cispo",
    "clone",
    "dapo",
    "dapo_whole",
    "decoupled",
    "dr_grpo",
    "dual_clip",
    "gigpo",
    "grpo",
    "gspo",
    "hpt",
    "loop",
    "lp_reg",
    "m_grpo",
    "mdpo",
    "nft",
    "opmd",
    "p3o",
    "plain",
    "poise",
    "ppo",
    "ppo_max",
    "reinforce",
    "reinforce_pp",
    "remax",
    "rloo",
    "sapo",
    "spo",
    "tis",
    "webagent_r1",
    "webagent_r1_async",
    "webagent_r1_cot",
    "webagent_r1_zero",
]
