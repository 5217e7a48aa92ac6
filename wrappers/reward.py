"""Step rewards compose by addition, and every part is reported."""

from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium as gym

from ..envs import Messages

Part = Callable[[str, float, dict[str, Any]], float]


class Shaped(gym.Wrapper[Messages, str, Messages, str]):
    """Adds ``weight * part(action, reward, info)`` for each named part, reported as ``info["reward/NAME"]``."""

    def __init__(self, env: gym.Env[Messages, str], **parts: tuple[float, Part]) -> None:
        super().__init__(env)
        self.parts = parts

    def step(self, action: str) -> tuple[Messages, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        paid = {name: weight * part(action, float(reward), info) for name, (weight, part) in self.parts.items()}
        info = info | {f"reward/{name}": value for name, value in paid.items()}
        return observation, float(reward) + sum(paid.values()), terminated, truncated, info
