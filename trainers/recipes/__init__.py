"""Published algorithms, each a choice of parts."""

from .clone import clone
from .m_grpo import m_grpo
from .webagent_r1 import webagent_r1, webagent_r1_async, webagent_r1_cot, webagent_r1_zero

RUNS = {  # what ``turngym train`` knows
    run.__name__: run for run in (webagent_r1, webagent_r1_zero, webagent_r1_cot, webagent_r1_async)
}

__all__ = ["RUNS", "clone", "m_grpo", "webagent_r1", "webagent_r1_async", "webagent_r1_cot", "webagent_r1_zero"]
