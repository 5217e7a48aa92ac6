"""The curricula by name."""

from collections.abc import Mapping

from .curriculum import Make, Name, Spread, Uniform

CURRICULA: Mapping[Name, Make] = {"spread": Spread, "uniform": Uniform}
