"""Where the browsers of the remote engine are: named by the environment, or started by ``turngym browsers up``."""

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import UsageError

VARIABLE = "TURNGYM_BROWSERS"  # endpoints, separated by commas
FOLDER = Path("runs/browsers")  # of `turngym browsers up`, beneath the working directory
STATE = "browsers.json"  # the file in it that says what was started
_SCHEMES = ("ws", "wss", "http")
_HOW = f"start some with: turngym browsers up, or set {VARIABLE} to endpoints separated by commas"


@dataclass(frozen=True, slots=True)
class Browser:
    """One browser that ``turngym browsers up`` started."""

    name: str
    kind: str  # process, docker or podman
    id: str  # the number of its process group, or what the container program calls it
    home: str  # the folder of a process, removed with it; empty for a container
    endpoint: str  # empty until it is known


def endpoints() -> tuple[str, ...]:
    """The endpoints of the variable, else those of the file that ``turngym browsers up`` wrote; at least one.

    ``ws://`` and ``wss://`` are Playwright servers, ``http://`` are the DevTools of a Chromium. Nothing is asked
    whether it answers. Raises UsageError when there is none or one is malformed.
    """
    said = os.environ.get(VARIABLE, "").strip()
    if said:
        found, where = [word.strip() for word in said.split(",") if word.strip()], VARIABLE
    else:
        found, where = [browser.endpoint for browser in load(FOLDER)], str(FOLDER / STATE)
    if not found:
        raise UsageError(f"no remote browsers: {_HOW}")
    return tuple(_checked(endpoint, where) for endpoint in found)


def load(folder: Path) -> tuple[Browser, ...]:
    """What was started in ``folder``, nothing when there is no such file.

    Raises UsageError when the file cannot be read or is none of its own.
    """
    path = folder / STATE
    try:
        browsers = tuple(Browser(**entry) for entry in json.loads(path.read_text())["browsers"])
        if not all(isinstance(getattr(browser, field.name), str) for browser in browsers for field in fields(Browser)):
            raise ValueError
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no readable list of browsers: remove it, then run turngym browsers up") from error
    return browsers


def save(folder: Path, browsers: Iterable[Browser]) -> None:
    """Write the file of ``folder`` at once, or remove it where nothing runs; raises UsageError when it cannot."""
    path, listed = folder / STATE, [asdict(browser) for browser in browsers]
    aside = folder / f".{STATE}.{secrets.token_hex(4)}"
    try:
        if not listed:
            path.unlink(missing_ok=True)
            return
        try:
            aside.write_text(json.dumps({"browsers": listed}, indent=2) + "\n")
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _checked(endpoint: str, where: str) -> str:
    """``endpoint``, which must be a URL with a host and, if any, a port that there can be."""
    try:
        url = urlsplit(endpoint)
        sound = url.scheme in _SCHEMES and bool(url.hostname) and url.port != 0 and not any(map(str.isspace, endpoint))
        if url.scheme == "http":  # DevTools answers at its root alone
            sound = sound and url.path in ("", "/") and not url.query
    except ValueError:  # the port is no number or too large
        sound = False
    if not sound:
        raise UsageError(
            f"{where} holds {endpoint!r}, which is no ws://, wss:// or http:// address of a browser: correct it, or"
            f" start browsers with: turngym browsers up"
        )
    return endpoint
