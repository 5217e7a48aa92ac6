"""Worlds: they speak words and pay rewards; they know nothing of tokens."""

from gymnasium import register

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

register("turngym/WebShop-v0", entry_point="turngym.envs.web.shop:WebShop", disable_env_checker=True)
register("turngym/WebForum-v0", entry_point="turngym.envs.web.forum:WebForum", disable_env_checker=True)
register("turngym/WebSuite-v0", entry_point="turngym.envs.web.suite:WebSuite", disable_env_checker=True)
