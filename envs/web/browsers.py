"""Browsers that stay: started, asked and ended by ``turngym browsers``, in containers or as local processes."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

import httpx

from ..errors import EnvError, TurngymError, UsageError
from .containers import PROGRAMS, Containers, available
from .processes import Processes
from .remote import Browser, load, save

Kind = Literal["auto", "containers", "processes"]
State = Literal["running", "not answering", "dead"]
_SECONDS = 60.0  # that a browser may take until it answers for the first time
_PATIENCE = 5.0  # seconds for one answer


class Keeper(Protocol):
    """One way to run browsers. Errors are UsageError and EnvError."""

    def start(self, name: str, token: str) -> Browser:
        """Begin one; ``token`` makes its name unique in the world."""
        ...

    def endpoint(self, browser: Browser) -> str | None:
        """Its address, None while it has none."""
        ...

    def alive(self, browser: Browser) -> bool: ...

    def said(self, browser: Browser) -> str:
        """The last line that it wrote."""
        ...

    def stop(self, browser: Browser) -> None:
        """End it and remove what it left; nothing happens when it is gone."""
        ...


def up(folder: Path, count: int, kind: Kind = "auto") -> tuple[Browser, ...]:
    """See that at least ``count`` browsers run and answer: those that do stay, the rest is cleared away and replaced.

    ``kind`` auto takes containers where Docker or Podman answers, else processes; where some run already, their
    kind. Raises UsageError when that kind cannot be had or others run, and EnvError when one does not start;
    then what this call began is ended again, and ``folder`` lists the others.
    """
    if count < 1:
        raise UsageError(f"--count must be at least 1, not {count}")
    with _locked(folder):
        listed = load(folder)
        running = [browser for browser in listed if state(browser, folder) == "running"]
        keeper, begun = _keeper(folder, kind, running), list[Browser]()
        for browser in listed:
            if browser not in running:
                _kept_by(browser, folder).stop(browser)
        save(folder, running)
        try:
            taken = {browser.name for browser in running}
            free = (name for i in range(count) if (name := f"browser-{i}") not in taken)
            for name, _ in zip(free, range(count - len(running)), strict=False):
                begun.append(keeper.start(name, secrets.token_hex(4)))
                save(folder, [*running, *begun])  # at once: if this process is killed, `down` finds them
            answering = sorted([*running, *(_answered(keeper, browser) for browser in begun)], key=_order)
            save(folder, answering)
        except BaseException:  # a stop by the user leaves no stray browser either
            for browser in begun:
                with suppress(TurngymError):  # the first error is the one to tell
                    keeper.stop(browser)
            save(folder, running)
            raise
        return tuple(answering)


def down(folder: Path) -> tuple[Browser, ...]:
    """End all that ``folder`` lists, dead or alive; raises EnvError when one stays, which then stays listed."""
    if not folder.is_dir():
        return ()
    with _locked(folder):
        left = list(load(folder))
        ended = []
        while left:
            _kept_by(left[0], folder).stop(left[0])
            ended.append(left.pop(0))
            save(folder, left)
        with suppress(OSError):  # something else lies there
            folder.rmdir()
    return tuple(ended)


def status(folder: Path) -> tuple[tuple[Browser, State], ...]:
    """What ``folder`` lists and how each is."""
    return tuple((browser, state(browser, folder)) for browser in load(folder))


def state(browser: Browser, folder: Path) -> State:
    """Whether it lives and answers; raises EnvError when that cannot be told."""
    if not _kept_by(browser, folder).alive(browser):
        return "dead"
    return "running" if answers(browser.endpoint) else "not answering"


def answers(endpoint: str) -> bool:
    """The health check: whether a Chromium's DevTools are at ``endpoint``."""
    try:
        with httpx.Client(trust_env=False, timeout=_PATIENCE) as client:
            found = client.get(f"{endpoint}/json/version").json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False
    return isinstance(found, dict) and "webSocketDebuggerUrl" in found


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make ``folder`` and hold it: two commands at once would start, or end, the same browsers twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"cannot use {folder}: {error.strerror or error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"another turngym browsers is at work in {folder}: let it end") from None
    finally:
        os.close(handle)


def _keeper(folder: Path, kind: Kind, running: Sequence[Browser]) -> Keeper:
    """What shall start browsers; raises UsageError when it cannot."""
    if running:
        have = "processes" if running[0].kind == "process" else "containers"
        if kind not in ("auto", have):
            raise UsageError(
                f"{have} run in {folder} already: end them first with: turngym browsers down --out {folder}"
            )
        return _kept_by(running[0], folder)
    if kind == "processes":
        return Processes(folder)
    program, why = available()
    if program:
        containers = Containers(program)
        containers.check()
        return containers
    if kind == "containers":
        raise UsageError(f"no containers: {why}; start its engine, or take --kind processes")
    return Processes(folder)


def _kept_by(browser: Browser, folder: Path) -> Keeper:
    if browser.kind in PROGRAMS:
        return Containers(browser.kind)
    if browser.kind == "process" and browser.id.isdecimal() and int(browser.id) > 1:
        return Processes(folder)
    raise UsageError(f"{folder} lists a browser of an unknown kind, {browser.kind} {browser.id}: remove its list")


def _order(browser: Browser) -> tuple[int, str]:
    return len(browser.name), browser.name  # browser-10 comes after browser-9


def _answered(keeper: Keeper, browser: Browser) -> Browser:
    """The browser with its endpoint, once it answers there."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        endpoint = keeper.endpoint(browser)
        if endpoint and answers(endpoint):
            return replace(browser, endpoint=endpoint)
        if not keeper.alive(browser):
            raise EnvError(f"{browser.name} ended at once: {keeper.said(browser)}")
        time.sleep(0.05)
    raise EnvError(f"{browser.name} did not answer in {_SECONDS:g} s: {keeper.said(browser)}")
