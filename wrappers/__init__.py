"""Lenses: env in, env out."""

from .isolated import Isolated
from .record import Recorded
from .reward import Shaped

__all__ = ["Isolated", "Recorded", "Shaped"]
