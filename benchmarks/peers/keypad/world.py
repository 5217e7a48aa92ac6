"""The keypad: three digits to be pressed in order by tool calls, then a last word. Needs nothing but Python."""

import json
import random
import re

SYSTEM = (
    "You stand before a safe with a keypad. The note beside it says which digits open it. Press them one after the "
    'other with the tool press: {"name": "press", "parameters": {"digit": "integer"}}. A wrong digit jams the safe. '
    "When it is open, or jammed, say done."
)
CALLS = 5  # at most, in an episode
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class Keypad:
    """One safe. ``noise`` is the half-width of a chance part of the reward: with it no group is without spread."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise

    def start(self, seed: int) -> str:
        """A new safe; gives the user's message."""
        rng = random.Random(seed)
        self.code, self.pressed = [rng.randrange(10) for _ in range(3)], list[int]()
        return f"The note says {' '.join(map(str, self.code))}."

    @property
    def over(self) -> bool:
        return not self.right or len(self.pressed) == 3

    @property
    def right(self) -> bool:
        return self.pressed == self.code[: len(self.pressed)]

    def press(self, digit: int) -> str:
        """What the keypad shows after a digit."""
        if not self.over:
            self.pressed.append(digit)
        if not self.right:
            return "jammed"
        return "open" if self.over else f"{3 - len(self.pressed)} to go"

    def reward(self, chance: float) -> float:
        """1 for an open safe, else 0; ``chance`` lies in [0, 1)."""
        return float(self.pressed == self.code) + self.noise * (2 * chance - 1)

    def gold(self) -> str:
        """The right action: the words of a call, or the last word."""
        return "done" if self.over else written(self.code[len(self.pressed)])


def written(digit: int) -> str:
    """A call, as the chat template writes it."""
    return f'<tool_call>\n{{"name": "press", "arguments": {{"digit": {digit}}}}}\n</tool_call>'


def called(text: str) -> int | None:
    """The digit of the first call in ``text``; None where there is none that can be read."""
    if (found := _CALL.search(text)) is None:
        return None
    try:
        call = json.loads(found[1])
        return int(call["arguments"]["digit"]) if call["name"] == "press" else None
    except (ValueError, TypeError, KeyError):
        return None
