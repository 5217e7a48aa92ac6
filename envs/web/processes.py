"""Chromium as a process of this machine that outlives the command that started it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import EnvError, UsageError
from .chromium import find, flags
from .remote import Browser

_PROC = Path("/proc/self/stat")
_GRACE = 5.0  # seconds to leave by itself, and again to be gone once killed


class Processes:
    """Browsers as local processes, each the leader of a session of its own with a folder of its own.

    What that isolates: cookies, caches and history, which lie in the folder, and by the flags every host but this
    machine. What it does not: a browser runs as its user, sees that user's files and this machine's servers, shares
    memory and process numbers with all else (only core dumps are limited: Chromium reserves terabytes of addresses,
    and a user's processes can only be counted together), and whoever may use this machine may use its endpoint.
    Containers isolate all of that.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._children: set[int] = set()  # groups begun here: until their leader is waited for, their number is theirs

    def start(self, name: str, token: str) -> Browser:
        """Begin one; raises UsageError when there is no Chromium or its folder cannot be made."""
        executable, home = find(), self.folder / f"{name}-{token}"
        try:
            home.mkdir(mode=0o700)
        except OSError as error:
            raise UsageError(f"cannot make {home}: {error.strerror or error}") from error
        # Without a name for the address it listens on 127.0.0.1 alone; it writes the port down when it has one.
        options = ["--headless", "--disable-breakpad", *flags(), "--remote-debugging-port=0", _mark(str(home))]
        words = ["/bin/sh", "-c", 'ulimit -c 0; exec "$0" "$@"', executable, *options, "about:blank"]
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(home / "log"), os.O_WRONLY | os.O_CREAT, 0o600),
        ]
        group = os.posix_spawn(words[0], words, os.environ, file_actions=files, setsid=True)
        self._children.add(group)
        return Browser(name, "process", str(group), str(home), "")

    def endpoint(self, browser: Browser) -> str | None:
        """Its address, None while it has none."""
        try:
            port = (Path(browser.home) / "profile/DevToolsActivePort").read_text().split()[0]
        except (OSError, IndexError):
            return None
        return f"http://127.0.0.1:{port}"

    def alive(self, browser: Browser) -> bool:
        """Whether it runs; a process that only has its number by chance does not count."""
        mark = _mark(browser.home)
        for _ in range(100):
            commands = list(_commands(int(browser.id)))
            if any(mark in command for command in commands):
                return True
            if all(commands):
                return False
            time.sleep(0.01)  # one is between two programs, when it has no command line
        return False

    def said(self, browser: Browser) -> str:
        """The last line that it wrote."""
        with suppress(OSError, IndexError):
            return (Path(browser.home) / "log").read_text(errors="replace").strip().splitlines()[-1]
        return "it said nothing"

    def stop(self, browser: Browser) -> None:
        """End its whole process group and remove its folder; raises EnvError when it stays."""
        group = int(browser.id)
        # One look decides: as long as a member lives, the number of a group is not given to another. Where only
        # Chromium's helpers are left, of which nothing says whose they are, they end by themselves.
        ours = group in self._children or self.alive(browser)
        if ours and not any(_ended(group, number) for number in (signal.SIGTERM, signal.SIGKILL)):
            raise EnvError(f"the processes of {browser.name} (group {group}) do not end")
        self._children.discard(group)
        with suppress(ChildProcessError):  # they are children only where the same process started them
            os.waitpid(group, os.WNOHANG)
        if Path(browser.home).parent == self.folder:  # whatever a list says, nothing else is removed
            shutil.rmtree(browser.home, ignore_errors=True)


def _mark(home: str) -> str:
    """The option by which a browser's own process is known: no other has this folder."""
    return f"--user-data-dir={home}/profile"


def _ended(group: int, number: signal.Signals) -> bool:
    """Send the signal to the group; whether all of it is gone in time."""
    with suppress(ProcessLookupError, PermissionError):  # the latter is macOS's word for zombies alone
        os.killpg(group, number)
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline:
        if not any(True for _ in _commands(group)):
            return True
        time.sleep(0.02)
    return False


def _commands(group: int) -> Iterator[str]:
    """The command lines of the processes of a group that live."""
    if not _PROC.exists():  # macOS
        listed = subprocess.run(["ps", "-axww", "-o", "pgid=,state=,command="], capture_output=True, text=True)
        rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
        yield from (row[2] for row in rows if len(row) == 3 and row[0] == str(group) and row[1][0] != "Z")
        return
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):  # it ended meanwhile
            # The name, in parentheses, may hold anything; after it come the state, the parent and the group.
            state, _, own = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(own) == group and state not in "ZX":
                yield os.fsdecode((folder / "cmdline").read_bytes().replace(b"\0", b" "))
