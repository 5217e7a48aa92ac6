"""A share of successes and how sure it is."""

from dataclasses import dataclass
from math import sqrt

from ..envs.errors import UsageError

Z = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Rate:
    """A share in [0, 1], its 95 % interval ``low`` to ``high``, and the ``episodes`` that it comes from."""

    mean: float
    low: float
    high: float
    episodes: int

    def to_json(self) -> dict[str, float | int]:
        """The four fields by name."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "episodes": self.episodes}

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % ({100 * self.low:.1f}–{100 * self.high:.1f})"


def interval(successes: int, n: int) -> Rate:
    """The share of ``successes`` among ``n`` independent episodes with Wilson's 95 % score interval.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927). Unlike mean ± 2 standard errors it stays within [0, 1] and has a
    width at 0 and n. Raises UsageError when no episode was played or the counts do not fit.
    """
    if n <= 0:
        raise UsageError("a share of successes needs at least one episode that could be scored")
    if not 0 <= successes <= n:
        raise UsageError(f"{successes} successes in {n} episodes")
    mean, spread = successes / n, Z * Z / n
    middle = (mean + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * sqrt(mean * (1 - mean) / n + spread / (4 * n))
    # Exactly 0 and 1 at the ends, whatever the rounding.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return Rate(mean, low, high, n)
