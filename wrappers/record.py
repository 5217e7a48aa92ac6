"""Pictures of what an agent saw."""

from typing import Any, SupportsFloat

import gymnasium as gym

from ..envs import Messages


class Recorded(gym.Wrapper[Messages, str, Messages, str]):
    """Adds to ``info`` of each step the page that the action was taken on: ``screenshot``, PNG.

    The world needs a method ``screenshot() -> bytes``. The last step also has ``final_screenshot``.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, dict[str, Any]]:
        first = self.env.reset(seed=seed, options=options)
        self._shot: bytes = self.get_wrapper_attr("screenshot")()
        return first

    def step(self, action: str) -> tuple[Messages, SupportsFloat, bool, bool, dict[str, Any]]:
        before = self._shot
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._shot = self.get_wrapper_attr("screenshot")()
        info = info | {"screenshot": before}
        if terminated or truncated:
            info["final_screenshot"] = self._shot
        return observation, reward, terminated, truncated, info
