"""What tests of processes share: to wait for them, to count them, to know that they are gone."""

import time
from collections.abc import Callable

import psutil


def wait(done: Callable[[], object], why: Callable[[], str] = str, seconds: float = 60.0) -> None:
    """Until ``done()``, which other threads or processes bring about."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, why()
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def children(pid: int | None = None) -> set[int]:
    """All that descend from ``pid``, by default from this process, and live."""
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True) if alive(child.pid)}
    except psutil.NoSuchProcess:
        return set()


def command(pid: int) -> str:
    """Its command line; empty when it is gone."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def files() -> int:
    """Open file descriptors of this process."""
    return psutil.Process().num_fds()
