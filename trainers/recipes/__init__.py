"""Published algorithms, each a choice of parts."""

from .clone import clone
from .m_grpo import m_grpo
from .webagent_r1 import webagent_r1

RUNS = {"webagent_r1": webagent_r1}  # what ``turngym train`` knows

__all__ = ["RUNS", "clone", "m_grpo", "webagent_r1"]
