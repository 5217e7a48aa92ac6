"""Published algorithms, each a choice of parts."""

from .clone import clone
from .m_grpo import m_grpo

__all__ = ["clone", "m_grpo"]
