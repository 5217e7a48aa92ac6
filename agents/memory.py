"""What an agent remembers of an episode: the messages from which its next action is sampled."""

from collections.abc import Callable, Iterator, Sequence

from ..envs import Message, Messages
from .core import Turn

PLACEHOLDER = "…"

Memory = Callable[[Sequence[Turn], Messages], Iterator[Message | Turn]]


def full(history: Sequence[Turn], observation: Messages) -> Iterator[Message | Turn]:
    """Everything seen and done, in order; a Turn in the answer stands for its action, in its exact tokens."""
    for turn in history:
        yield from turn.observation
        yield turn
    yield from observation


def compressed(history: Sequence[Turn], observation: Messages) -> Iterator[Message | Turn]:
    """Earlier observations become a placeholder; goal and actions stay.

    WebAgent-R1's dynamic context compression (arXiv 2505.16421): h_t = (s'_1, a_1, …, s'_{t-1}, a_{t-1}, s_t), so
    that a context grows with the actions alone. System messages carry the goal and are kept.
    """
    for turn in history:
        for message in turn.observation:
            yield message if message.role == "system" else Message(message.role, PLACEHOLDER)
        yield turn
    yield from observation


MEMORIES: dict[str, Memory] = {"full": full, "compressed": compressed}
