"""Wilson's interval: values from the literature, and what must hold for all counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs import UsageError
from turngym.trainers.statistics import Rate, interval


@pytest.mark.parametrize(
    # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998),
    # table I, method 3.
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_values(successes: int, n: int, low: float, high: float) -> None:
    rate = interval(successes, n)
    assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)
    assert (rate.mean, rate.episodes) == (successes / n, n)


@given(st.integers(1, 10_000), st.data())
def test_every_interval_holds_its_mean_and_stays_a_share(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    rate, mirror = interval(successes, n), interval(n - successes, n)
    assert 0 <= rate.low <= rate.mean <= rate.high <= 1
    assert rate.low < rate.high
    assert rate.low == pytest.approx(1 - mirror.high, abs=1e-12)


@given(st.integers(1, 1000), st.integers(2, 10))
def test_more_episodes_make_it_narrower(n: int, times: int) -> None:
    few, many = interval(n // 2, n), interval(times * (n // 2), times * n)
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (2, 1), (-1, 3)])
def test_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(UsageError):
        interval(successes, n)


def test_a_rate_for_machines_and_for_people() -> None:
    rate = Rate(0.25, 0.125, 0.5, 16)
    assert rate.to_json() == {"mean": 0.25, "low": 0.125, "high": 0.5, "episodes": 16}
    assert str(rate) == "25.0 % (12.5–50.0)"
