"""The keypad as a Gymnasium environment."""

import random
from typing import Any

import gymnasium as gym
from world import CALLS, SYSTEM, Keypad, called

from turngym.envs import Chat, Message, Messages, Reply


class GymKeypad(gym.Env[Messages, str]):
    """An action with a call gets the tool's answer; one without ends the episode, as one after ``CALLS`` calls does."""

    def __init__(self, noise: float = 0.0) -> None:
        self.observation_space, self.action_space = Chat(), Reply(["done"])
        self.keypad = Keypad(noise)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, dict[str, Any]]:
        super().reset(seed=seed)
        self.calls = 0
        note = self.keypad.start(int(self.np_random.integers(1 << 31)))
        return (Message("system", SYSTEM), Message("user", note)), {}

    def step(self, action: str) -> tuple[Messages, float, bool, bool, dict[str, Any]]:
        digit = called(action)
        if digit is None or self.calls == CALLS:
            # members of a group share the seed: their chance comes from elsewhere than the world's generator
            chance = random.Random().random()
            info = {"success": self.keypad.pressed == self.keypad.code, "calls": self.calls}
            return (), self.keypad.reward(chance), True, False, info
        self.calls += 1
        return (Message("tool", self.keypad.press(digit)),), 0.0, False, False, {}

    def cheat(self) -> str:
        return self.keypad.gold()


gym.register("Keypad-v0", entry_point=GymKeypad)
gym.register("NoisyKeypad-v0", entry_point=GymKeypad, kwargs={"noise": 0.01})
