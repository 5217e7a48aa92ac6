"""Calls of tools in sampled text, in the form of Hermes and Qwen: ``<tool_call>{"name": ..., "arguments": {...}}``."""

import json
import re
from typing import Any, NoReturn

from ...envs import ToolCall

_BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def parse(text: str, prefix: str) -> tuple[str, tuple[ToolCall, ...]]:
    """What of ``text`` is no call, and the calls in their order, with ids that begin with ``prefix``.

    A block that is no JSON object with a name and an object of arguments stays in the content; without any call the
    content is ``text`` itself.
    """
    calls: list[ToolCall] = []

    def take(block: re.Match[str]) -> str:
        try:
            name, arguments = _read(block[1])
        except ValueError:
            return block[0]
        calls.append(ToolCall(f"{prefix}{len(calls)}", name, arguments))
        return ""

    rest = _BLOCK.sub(take, text)
    return (rest.strip(), tuple(calls)) if calls else (text, ())


def ordered(arguments: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Arguments in one order, whatever that of the JSON was: a client may write them anew."""
    return tuple(sorted(arguments.items()))


def _read(words: str) -> tuple[str, tuple[tuple[str, Any], ...]]:
    said = json.loads(words, parse_constant=_no_number)
    if not isinstance(said, dict) or not isinstance(said.get("name"), str) or not said["name"]:
        raise ValueError("a call is an object with a name")
    arguments = said.get("arguments", {})
    if not isinstance(arguments, dict):
        raise ValueError("arguments are an object")
    json.dumps(arguments, allow_nan=False)  # 1e999 is read as infinity, which JSON cannot say
    return said["name"], ordered(arguments)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")
