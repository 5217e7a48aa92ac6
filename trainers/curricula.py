"""The curricula by name."""

from collections.abc import Mapping

from .bandits import SelfEvolving, UpperConfidence
from .bins import Bins
from .curriculum import Make, Name, Spread, Uniform
from .thompson import Thompson

CURRICULA: Mapping[Name, Make] = {
    "spread": Spread,
    "uniform": Uniform,
    "bins": Bins,
    "vade": Thompson,
    "sec": SelfEvolving,
    "dump": UpperConfidence,
}
