"""What keeps one page from taking all of a machine's memory: processes that grow too large are ended."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LIMIT = 1 << 30  # bytes that a page's process may hold
_SECONDS = 0.25  # between two looks
_PROC = Path("/proc")


async def watch(browser: int) -> None:
    """Kill the pages of the process ``browser`` that hold more than ``LIMIT``, for ever; only where there is /proc.

    Their episodes fail, as after any crash.
    """
    while (_PROC / str(browser)).exists():
        for page in _pages(browser):
            if _held(page) > LIMIT:
                with suppress(ProcessLookupError):
                    os.kill(page, signal.SIGKILL)
        await asyncio.sleep(_SECONDS)


def _pages(process: int) -> Iterator[int]:
    """The renderers among all that descend from ``process``."""
    with suppress(OSError):  # whatever has ended has no children
        for task in (_PROC / str(process) / "task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                if b"--type=renderer" in (_PROC / str(child) / "cmdline").read_bytes():
                    yield child
                yield from _pages(child)


def _held(process: int) -> int:
    try:
        pages = int((_PROC / str(process) / "statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
