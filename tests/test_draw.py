"""Random numbers of a request, and the tokens drawn with them."""

from dataclasses import replace

import pytest
import torch

from turngym.agents import Request
from turngym.agents.samplers.draw import draw, numbers


def test_random_numbers_are_keyed_by_seed_and_position() -> None:
    request = Request((2, 3), seed=(5, 0))
    assert (numbers(request, 9)[:4] == numbers(request, 4)).all()
    assert (numbers(request, 4) != numbers(replace(request, seed=(5, 1)), 4)).all()
    many = numbers(request, 10_000)
    assert 0 <= many.min() and many.max() < 1 and abs(many.mean() - 0.5) < 0.02


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_drawn_in_proportion_to_their_probability(temperature: float) -> None:
    logits = torch.tensor([-torch.inf, 1.0, -torch.inf, 0.0, 2.0, -torch.inf])
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens, logps = draw(logits.expand(count, 6), torch.full((count, 1), temperature), uniform)
    wanted = (logits / temperature).softmax(-1)
    shares = torch.bincount(tokens, minlength=6) / count
    assert torch.allclose(shares, wanted, atol=1e-3) and shares[0] == shares[2] == shares[5] == 0
    assert torch.allclose(logps.exp(), wanted[tokens])
    first, last = draw(logits.expand(2, 6), torch.ones(2, 1), torch.tensor([0.0, 1.0 - 2**-53], dtype=torch.float64))[0]
    assert (int(first), int(last)) == (1, 4)
