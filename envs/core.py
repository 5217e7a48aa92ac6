"""Words in, words out: the types that a conversational world speaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of words inside a message."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A PNG inside a message; it keeps its place between the words."""

    png: bytes


Part = Text | Image
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of tool ``name`` with JSON-like ``arguments``; ``id`` pairs it with its answer."""

    id: str
    name: str
    arguments: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One message: ``Message("user", "hello")``; content is words, or words and images in order."""

    role: Role
    content: str | tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The words alone, images left out."""
        if isinstance(self.content, str):
            return self.content
        return "".join(p.text for p in self.content if isinstance(p, Text))

    @property
    def images(self) -> tuple[Image, ...]:
        """The images alone, in their order."""
        if isinstance(self.content, str):
            return ()
        return tuple(p for p in self.content if isinstance(p, Image))


Messages = tuple[Message, ...]
Env = gym.Env[Messages, str]


def user(text: str) -> Messages:
    """One user message."""
    return (Message("user", text),)


class Chat(gym.Space[Messages]):
    """Space of tuples of messages; equal to every other Chat."""

    def contains(self, x: Any) -> bool:
        return isinstance(x, tuple) and all(isinstance(m, Message) for m in x)

    def sample(self, mask: Any = None, probability: Any = None) -> Messages:
        return user(f"sample {int(self.np_random.integers(1000))}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chat)

    def __hash__(self) -> int:
        return hash(Chat)

    def __repr__(self) -> str:
        return "Chat()"


class Reply(gym.Space[str]):
    """Space of strings of at most ``max_length`` characters; samples come from ``examples``."""

    def __init__(self, examples: Sequence[str], max_length: int = 10_000) -> None:
        super().__init__()
        self.examples, self.max_length = tuple(examples), max_length

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return self.examples[int(self.np_random.integers(len(self.examples)))]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reply) and (self.examples, self.max_length) == (
            other.examples,
            other.max_length,
        )

    def __hash__(self) -> int:
        return hash((self.examples, self.max_length))

    def __repr__(self) -> str:
        return f"Reply({len(self.examples)} examples, max_length={self.max_length})"
