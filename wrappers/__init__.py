"""Lenses: env in, env out."""

from .record import Recorded
from .reward import Shaped

__all__ = ["Recorded", "Shaped"]
