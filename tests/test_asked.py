"""What every sampler asks of a request, and its seed as engines take one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.agents import Request
from turngym.agents.asked import check, number
from turngym.envs import Image, UsageError

FINE = Request((1, 2), 4)
WRONG = [
    ({"images": (Image(b""),)}, "the plain sampler reads words only"),
    ({"ids": ()}, "wants ids"),
    ({"max_tokens": 0}, "max_tokens of at least 1"),
    ({"temperature": -0.1}, "a temperature of at least 0"),
]
CUT = [{"top_k": 3}, {"top_p": 0.9}]


@pytest.mark.parametrize(("change", "why"), [*WRONG, *((c, "leave top_k and top_p unset") for c in CUT)])
def test_what_no_sampler_can_do_is_refused(change: dict[str, object], why: str) -> None:
    check(FINE, "plain")
    with pytest.raises(UsageError, match=why):
        check(replace(FINE, **change), "plain")  # type: ignore[arg-type]


@pytest.mark.parametrize("change", CUT)
def test_what_is_not_sampled_whole_may_be_cut(change: dict[str, object]) -> None:
    check(replace(FINE, **change), "plain", whole=False)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 2**70), max_size=4).map(tuple))
def test_seeds_fit_into_63_bits(seed: tuple[int, ...]) -> None:
    assert 0 <= number(seed) < 2**63 and number(seed) == number(seed) != number((*seed, 0))
