"""Agents without a model: baselines that show what a score is worth."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..envs import Messages
from ..envs.web.grammar import show
from .core import Action, Turn

_NUMBERED = re.compile(r"((?:\S+ )?\S* \[\d+\])")


@dataclass(frozen=True, slots=True)
class RandomAgent:
    """Clicks any numbered element of the page, or leaves one time in ten; random numbers keyed as a sampler's."""

    seed: tuple[int, ...] = (0,)

    async def __call__(self, history: Sequence[Turn], observation: Messages) -> Action:
        rng = np.random.default_rng((*self.seed, len(history)))
        names = _NUMBERED.findall(observation[-1].text)
        if not names or rng.random() < 0.1:
            return Action('exit(message="done")')
        return Action(show("Click", element=names[int(rng.integers(len(names)))]))
