"""Tokens in, tokens out: the types that an agent speaks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..envs import AgentError, Image, Messages

if TYPE_CHECKING:
    from torch import Tensor  # worlds in processes of their own do without torch

Finish = Literal["stop", "length", "cancelled"]


class ContextFull(AgentError):
    """What the agent remembers is longer than its model can read: its own doing, so its episode is truncated."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a sampler is asked: continue ``ids`` by at most ``max_tokens``.

    ``seed`` keys the random numbers, one stream per request: (run seed, task, member, turn, ...), so that the
    same request always draws the same numbers (rule 10). ``temperature`` 0 means greedy.
    """

    ids: tuple[int, ...]
    max_tokens: int = 64
    stop: tuple[int, ...] = ()  # token ids that end the sample; the stop token is part of it
    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    seed: tuple[int, ...] = (0,)
    session: str = ""  # requests of one episode share it
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sampler answers; ``logps`` are those of the distribution sampled from (rule 6)."""

    tokens: tuple[int, ...]  # [T]
    logps: tuple[float, ...]  # [T]
    versions: tuple[int, ...]  # [T] the weights that wrote each token
    finish: Finish


class Sampler(Protocol):
    """Continues token ids: in-process torch, vLLM, an HTTP endpoint, or a script."""

    async def __call__(self, request: Request) -> Sample: ...


class Weights(Protocol):
    """Receives new weights; no sampler shares the learner's module."""

    def publish(self, tensors: "Iterable[tuple[str, Tensor]]", version: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One exchange with one policy: the exact ids read (``request.ids``) and written (``sample.tokens``)."""

    policy: str
    request: Request
    sample: Sample


@dataclass(frozen=True, slots=True)
class Action:
    """What an agent does: the text that the world reads, and every call that led to it."""

    text: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """What was seen, what was done, what it paid, what the world said beside it."""

    observation: Messages
    action: Action
    reward: float = 0.0
    info: Mapping[str, Any] = field(default_factory=dict)


class Agent(Protocol):
    """Decides one action from the turns so far and the newest observation."""

    async def __call__(self, history: Sequence[Turn], observation: Messages) -> Action: ...
