"""``turngym browsers``: browsers for the remote engine, started, asked and ended."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..envs.errors import UsageError
from .options import Parser, add, build, doc, unknown

if TYPE_CHECKING:
    from ..envs.web.remote import Browser

ACTIONS = ("up", "down", "status")


@dataclass(frozen=True)
class Place:
    """Where browsers are written down."""

    out: str = field(default="runs/browsers", metadata=doc("the folder that lists them and holds those of processes"))


@dataclass(frozen=True)
class Up(Place):
    """What to start."""

    count: int = field(default=1, metadata=doc("how many shall run, those that run already counted"))
    kind: Literal["auto", "containers", "processes"] = field(
        default="auto", metadata=doc("auto: containers where Docker or Podman answers, else processes")
    )


def browsers_command(arguments: Sequence[str]) -> int:
    """``turngym browsers up|down|status [options]``"""
    if not arguments or arguments[0].startswith("-"):
        parser = Parser("turngym browsers", "Start, end or ask browsers for the remote engine.")
        parser.usage = "turngym browsers up|down|status [options]; turngym browsers up --help lists the options"
        parser.parse([word for word in arguments if word in ("-h", "--help")])
        raise UsageError("say what to do: turngym browsers up, down or status")
    if arguments[0] not in ACTIONS:
        raise UsageError(unknown("action", arguments[0], ACTIONS))
    return {"up": _up, "down": _down, "status": _status}[arguments[0]](arguments[1:])


def _up(arguments: Sequence[str]) -> int:
    from ..envs.web.browsers import up
    from ..envs.web.remote import VARIABLE

    parser = Parser("turngym browsers up", "See that browsers run; those that do are kept, the dead ones replaced.")
    add(parser, Up)
    wanted = build(Up, parser.parse(arguments))
    running = up(Path(wanted.out), wanted.count, wanted.kind)
    print(_table([(browser, "running") for browser in running]))
    print(f"\nexport {VARIABLE}={shlex.quote(','.join(browser.endpoint for browser in running))}")
    return 0


def _down(arguments: Sequence[str]) -> int:
    from ..envs.web.browsers import down

    parser = Parser("turngym browsers down", "End the browsers and remove what they left.")
    add(parser, Place)
    place = build(Place, parser.parse(arguments))
    ended = down(Path(place.out))
    print(_table([(browser, "ended") for browser in ended]) if ended else f"no browsers are listed in {place.out}")
    return 0


def _status(arguments: Sequence[str]) -> int:
    from ..envs.web.browsers import status
    from .files import write_text

    parser = Parser("turngym browsers status", "Say how each browser is; the exit code is 0 when all run, else 1.")
    add(parser, Place)
    parser.add_argument("--json", metavar="FILE", help="write it to FILE as well")
    namespace = parser.parse(arguments)
    place = build(Place, namespace)
    found = status(Path(place.out))
    print(_table(found) if found else f"no browsers are listed in {place.out}: start some with: turngym browsers up")
    if namespace.json is not None:
        listed = [{"name": b.name, "endpoint": b.endpoint, "kind": b.kind, "state": state} for b, state in found]
        write_text(namespace.json, json.dumps(listed, indent=2) + "\n")
    return 0 if found and all(state == "running" for _, state in found) else 1


def _table(rows: "Sequence[tuple[Browser, str]]") -> str:
    """A line for each browser: name, endpoint, kind and state."""
    words = [("name", "endpoint", "kind", "state"), *((b.name, b.endpoint, b.kind, state) for b, state in rows)]
    widths = [max(map(len, column)) for column in zip(*words, strict=True)]
    return "\n".join("  ".join(f"{w:{n}}" for w, n in zip(row, widths, strict=True)).rstrip() for row in words)
