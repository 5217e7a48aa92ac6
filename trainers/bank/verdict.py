"""What a claim says, what paired runs say of it, and whether it holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt

import numpy as np
from scipy.stats import t as student

from ...envs import UsageError
from .trial import Curve, Setting

GOAL = 0.8  # the success that ``episodes`` and ``entropy_at_goal`` ask for


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a run. One on a ``ratio`` scale is compared by quotients, others by differences."""

    name: str
    of: Callable[[Curve], float]
    ratio: bool = False


def _fall(curve: Curve) -> float:
    success = np.array(curve.success)
    return float((np.maximum.accumulate(success) - success).max())


def _late(values: Sequence[float]) -> float:
    return float(np.mean(values[-max(1, len(values) // 10) :]))


def _first(curve: Curve) -> int:
    """The update after which success is ``GOAL``; the last, where it never is."""
    reached = np.array(curve.success) >= GOAL
    return int(reached.argmax()) if reached.any() else len(reached) - 1


def needed(curve: Curve, goal: float) -> float | None:
    """Responses generated until success first is ``goal``, linear within an update; None where it never is."""
    reached = np.array(curve.success) >= goal
    if not reached.any():
        return None
    last = int(reached.argmax())
    if not last:
        return 0.0
    (a, b), (x, y) = curve.responses[last - 1 : last + 1], curve.success[last - 1 : last + 1]
    return a + (goal - x) / (y - x) * (b - a)


def after(curve: Curve, responses: float) -> float:
    """Success when so many responses had been generated, linear within an update.

    Raises UsageError for more than the run has.
    """
    if not 0 <= responses <= curve.responses[-1]:
        raise UsageError(f"the run has {curve.responses[-1]} responses, and not {responses:g}")
    return float(np.interp(responses, curve.responses, curve.success))


SPEED = Measure("mean success of the run", lambda curve: float(np.mean(curve.success)))
FINAL = Measure("success at the end", lambda curve: _late(curve.success))
FALL = Measure("largest fall of success", _fall)
ENTROPY = Measure("mean entropy of the run", lambda curve: float(np.mean(curve.entropy)))
ENTROPY_AT_GOAL = Measure(f"entropy at success {GOAL}", lambda curve: curve.entropy[_first(curve)])
WRONG = Measure("symbols of wrong answers at the end", lambda curve: _late(curve.wrong))
NOISE = Measure("variance of the gradient", lambda curve: curve.noise, ratio=True)
EPISODES = Measure(
    f"episodes to success {GOAL}", lambda curve: float(max(1, _first(curve)) * curve.episodes), ratio=True
)


@dataclass(frozen=True, slots=True)
class Expected:
    """Strictly between which bounds the difference (of logarithms, for a ratio) lies, as a claim has it."""

    low: float = -inf
    high: float = inf


MORE, LESS = Expected(low=0.0), Expected(high=0.0)
NEAR, NO_WORSE = Expected(-0.03, 0.03), Expected(low=-0.03)  # of a success


@dataclass(frozen=True, slots=True)
class Claim:
    """``ours`` against ``other``, by one measure, from the same seeds. ``says`` is the claim in words."""

    name: str
    says: str
    ours: Setting
    other: Setting
    measure: Measure
    expected: Expected


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds and its 95 % interval."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"mean": round(self.mean, 5), "low": round(self.low, 5), "high": round(self.high, 5)}

    def __str__(self) -> str:
        return f"{self.mean:.3g} ({self.low:.3g} to {self.high:.3g})"


def interval(values: Sequence[float]) -> Interval:
    """Student's, over independent seeds. Raises UsageError for less than two values, which have no spread."""
    if len(values) < 2:
        raise UsageError("an interval needs at least two seeds")
    mean = float(np.mean(values))
    half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def differences(ours: Sequence[float], other: Sequence[float]) -> Interval:
    """Of values paired by seed."""
    return interval([x - y for x, y in zip(ours, other, strict=True)])


def quotients(ours: Sequence[float], other: Sequence[float]) -> Interval:
    """Of values paired by seed: the geometric mean and its interval, by their logarithms."""
    gap = interval([log(x / y) for x, y in zip(ours, other, strict=True)])
    return Interval(exp(gap.mean), exp(gap.low), exp(gap.high))


@dataclass(frozen=True, slots=True)
class Found:
    """A claim and its figures; ``gap`` is of the paired differences, or of the quotients for a ratio."""

    claim: Claim
    ours: Interval
    other: Interval
    gap: Interval
    verdict: str


def judge(claim: Claim, ours: Sequence[Curve], other: Sequence[Curve]) -> Found:
    """By curves of the same seeds in the same order."""
    a, b = ([claim.measure.of(curve) for curve in curves] for curves in (ours, other))
    scale: Callable[[float], float] = log if claim.measure.ratio else float
    gap = interval([scale(x) - scale(y) for x, y in zip(a, b, strict=True)])
    verdict = decide(gap, claim.expected)
    if claim.measure.ratio:
        gap = Interval(exp(gap.mean), exp(gap.low), exp(gap.high))
    return Found(claim, interval(a), interval(b), gap, verdict)


def decide(gap: Interval, expected: Expected) -> str:
    """``holds`` if the whole interval is where the claim says, ``fails`` if none of it is, else ``unclear``."""
    if expected.low < gap.low and gap.high < expected.high:
        return "holds"
    if gap.high <= expected.low or gap.low >= expected.high:
        return "fails"
    return "unclear"
