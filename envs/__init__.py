"""Worlds: they speak words and pay rewards; they know nothing of tokens."""

from .core import Chat, Env, Image, Message, Messages, Part, Reply, Role, Text, ToolCall, user
from .errors import (
    ActionError,
    AgentError,
    CheckpointError,
    Deadline,
    EnvError,
    Failure,
    JudgeError,
    MissingExtra,
    TurngymError,
    UsageError,
    extra,
)

__all__ = [
    "ActionError",
    "AgentError",
    "Chat",
    "CheckpointError",
    "Deadline",
    "Env",
    "EnvError",
    "Failure",
    "Image",
    "JudgeError",
    "Message",
    "Messages",
    "MissingExtra",
    "Part",
    "Reply",
    "Role",
    "Text",
    "ToolCall",
    "TurngymError",
    "UsageError",
    "extra",
    "user",
]
