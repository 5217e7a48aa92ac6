"""Random numbers of a request, and tokens drawn with them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core import Request


def draw(logits: Tensor, heat: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [R] by inverse CDF at ``uniform`` [R], and their log-probabilities [R] under softmax(logits / heat).

    Where heat [R, 1] is 0 the likeliest token is taken, with its log-probability at temperature 1.
    """
    greedy = heat[:, 0] == 0
    logp = (logits / torch.where(greedy[:, None], 1.0, heat)).log_softmax(-1)
    mass = logp.exp().double().cumsum(-1)
    drawn = torch.searchsorted(mass, uniform[:, None] * mass[:, -1:], right=True).clamp(max=logits.shape[-1] - 1)
    chosen = torch.where(greedy, logits.argmax(-1), drawn[:, 0])
    return chosen, logp.gather(1, chosen[:, None])[:, 0]


def numbers(request: Request, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``count`` uniform numbers that depend on the request's seed alone, one a position."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(request.seed))).random(count)
