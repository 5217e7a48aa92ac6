"""WebAgent-R1's action grammar (arXiv 2505.16421), parsed into types and never executed.

``do(action="Click", element="red chair [12]")``, ``do(action="Type", argument="mug", element="search box [1]")``,
``exit(message="47")``, ``go_backward()``, ``go_forward()``; one action a turn, plain or inside
``<think>…</think><answer>…</answer>``. Arguments are keyword or in the order (action, argument, element).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ActionError

ON_ELEMENT = ("Click", "Right Click", "Hover")
WITH_TEXT = ("Type", "Search", "Select Dropdown Option")
ON_PAGE = ("Scroll Up", "Scroll Down", "Press Enter", "Wait")
ACTIONS = (*ON_ELEMENT, *WITH_TEXT, *ON_PAGE, "Switch Tab")

MAX_LENGTH = 4000  # characters of an action
_STRING = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\''
_ARGUMENT = re.compile(rf"\s*(?:(?P<key>\w+)\s*=\s*)?(?P<value>{_STRING})\s*(?P<end>,|$)", re.DOTALL)
_CALL = re.compile(r"(?P<name>\w+)\s*\((?P<body>.*)\)", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_ELEMENT = re.compile(r"\[(\d{1,6})\]\s*$|^\s*(\d{1,6})\s*$")


@dataclass(frozen=True, slots=True)
class Do:
    """``action`` on the element with number ``element`` (None when the action takes none)."""

    action: str
    argument: str = ""
    element: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """The agent is done; ``message`` is its answer."""

    message: str = ""


@dataclass(frozen=True, slots=True)
class Go:
    """Back or forward in the tab's history."""

    forward: bool


Command = Do | Exit | Go

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "do": ("action", "argument", "element"),
    "exit": ("message",),
    "go_backward": (),
    "go_forward": (),
}


def parse(text: str) -> Command:
    """The command that ``text`` spells; raises ActionError saying what is wrong."""
    if len(text) > MAX_LENGTH:
        raise ActionError(f"the action is longer than {MAX_LENGTH} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ActionError("the action holds half a character (a lone surrogate)")
    call = next(filter(None, (_CALL.fullmatch(part.strip()) for part in _readings(text))), None)
    if not call or call["name"] not in _PARAMETERS:
        raise ActionError("an action is one call of do, exit, go_backward or go_forward")
    given = _arguments(call["name"], call["body"])
    if call["name"] == "do":
        return _do(given)
    if call["name"] == "exit":
        return Exit(given.get("message", ""))
    return Go(forward=call["name"] == "go_forward")


def _readings(text: str) -> Iterator[str]:
    """What of ``text`` may be the call: all of it, the last answer, or all between the first tag and the last.

    In this order, because the words of an argument, and of a thought, may look like tags themselves.
    """
    yield text
    rest = text.partition("</think>")[2] or text
    if whole := re.search(r"<answer>(.*)</answer>", rest, re.DOTALL):
        yield _ANSWER.findall(rest)[-1]
        yield whole[1]


def _arguments(name: str, body: str) -> dict[str, str]:
    allowed, given, at = _PARAMETERS[name], dict[str, str](), 0
    body = body.strip()
    while at < len(body):
        match = _ARGUMENT.match(body, at)
        if not match:
            raise ActionError(f"cannot read the arguments of {name}: {body[at : at + 40]}")
        position = len(given)
        key = match["key"] or (allowed[position] if position < len(allowed) else "")
        if key not in allowed or key in given:
            raise ActionError(f"{name} takes each of ({', '.join(allowed)}) once, not {key[:40] or 'so many'}")
        given[key] = re.sub(r"\\(.)", r"\1", match["value"][1:-1], flags=re.DOTALL)
        at = match.end()
    return given


def _do(given: dict[str, str]) -> Do:
    action, argument, element = given.get("action", ""), given.get("argument", ""), given.get("element", "")
    if action not in ACTIONS:
        raise ActionError(f"no action {action[:40]!r}; there are {', '.join(ACTIONS)}")
    if action in ON_PAGE:
        return Do(action)
    if action == "Switch Tab":
        if not re.fullmatch(r"\d{1,3}", argument):
            raise ActionError("Switch Tab wants the tab's number as its argument")
        return Do(action, argument)
    if action in WITH_TEXT and "argument" not in given:
        raise ActionError(f"{action} wants an argument")
    found = _ELEMENT.search(element)
    if not found:
        raise ActionError(f"{action} wants an element such as 'name [3]'")
    return Do(action, argument, int(found[1] or found[2]))


def quote(text: str) -> str:
    """``text`` as a double-quoted string of the grammar."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def show(action: str, *, argument: str | None = None, element: str | None = None) -> str:
    """The canonical spelling of a ``do``: what demonstrations write and the policy learns."""
    parts = [f"action={quote(action)}"]
    parts += [f"argument={quote(argument)}"] if argument is not None else []
    parts += [f"element={quote(element)}"] if element is not None else []
    return f"do({', '.join(parts)})"


def reason(thought: str, action: str) -> str:
    """The thinking format: a thought, then the action, which alone is carried out."""
    return f"<think>{thought}</think><answer>{action}</answer>"
