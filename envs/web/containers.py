"""Chromium in containers: Docker or Podman, by their command lines."""

import shutil
import subprocess

from ..errors import EnvError, UsageError
from .remote import Browser

PROGRAMS = ("docker", "podman")
IMAGE = "turngym-browser"
PORT = 9222  # of the image
_SECONDS = 120  # that one call of the program may take
# The limits of docker/compose.yaml; a test compares them.
LIMITS = (
    "--read-only",
    "--tmpfs=/tmp:size=256m,mode=1777",
    "--tmpfs=/home/browser:size=512m,uid=1000,gid=1000,mode=0700",
    "--shm-size=512m",
    "--memory=2g",
    "--memory-swap=2g",
    "--pids-limit=1024",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges:true",
)
# How a browser reaches the sites of this machine: the image maps *.localhost to a name that Podman knows by itself.
_SITES = {
    "docker": ("--add-host=host.docker.internal:host-gateway", "--env=SITES_HOST=host.docker.internal"),
    "podman": ("--env=SITES_HOST=host.containers.internal",),
}


class Containers:
    """Browsers as containers of the image ``turngym-browser``, each with its DevTools at a port of 127.0.0.1.

    They run without privileges, with limits of memory and processes, and write to memory alone. On Linux a container
    reaches only those servers of this machine that listen on the address of its bridge, not those on 127.0.0.1.
    """

    def __init__(self, program: str) -> None:
        self.program = program

    def check(self) -> None:
        """Raises UsageError when the image is not there."""
        if self._call("image", "inspect", "--format={{.Id}}", IMAGE).returncode:
            build = f"{self.program} build -f docker/browser.Dockerfile -t {IMAGE} docker"
            raise UsageError(f"{self.program} has no image {IMAGE}: make it with: {build}; or take --kind processes")

    def start(self, name: str, token: str) -> Browser:
        """Begin one; raises EnvError when it cannot."""
        called = f"turngym-{name}-{token}"
        words = (f"--name={called}", f"--publish=127.0.0.1::{PORT}", *LIMITS, *_SITES[self.program])
        self._done("run", "--detach", "--pull=never", *words, IMAGE)
        return Browser(name, self.program, called, "", "")

    def endpoint(self, browser: Browser) -> str | None:
        """Its address, None while it has none."""
        listed = self._call("port", browser.id, f"{PORT}/tcp")
        if listed.returncode or not listed.stdout.strip():
            return None
        return f"http://{listed.stdout.split()[0]}"

    def alive(self, browser: Browser) -> bool:
        """Whether it runs; raises EnvError when the program cannot say."""
        looked = self._call("container", "inspect", "--format={{.State.Running}}", browser.id)
        if looked.returncode and not _absent(looked.stderr):
            raise EnvError(f"{self.program} cannot say how {browser.name} is: {_first(looked.stderr)}")
        return looked.stdout.strip() == "true"

    def said(self, browser: Browser) -> str:
        """The last line that it wrote."""
        logs = self._call("logs", "--tail=1", browser.id)
        return _first(logs.stderr or logs.stdout) or "it said nothing"

    def stop(self, browser: Browser) -> None:
        """Remove it and what it wrote; raises EnvError when it stays."""
        removed = self._call("rm", "--force", "--volumes", browser.id)
        if removed.returncode and not _absent(removed.stderr):
            raise EnvError(f"{self.program} cannot remove {browser.id}: {_first(removed.stderr)}")

    def _done(self, *words: str) -> str:
        called = self._call(*words)
        if called.returncode:
            raise EnvError(f"{self.program} {words[0]} failed: {_first(called.stderr)}")
        return called.stdout

    def _call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return call(self.program, *words)


def available() -> tuple[str | None, str]:
    """The first program whose engine answers, or None and why there is none."""
    why = []
    for program in PROGRAMS:
        if not shutil.which(program):
            why.append(f"{program} is not installed")
            continue
        try:
            asked = call(program, "ps", "--quiet")
        except EnvError as error:
            why.append(str(error))
            continue
        if not asked.returncode:
            return program, ""
        why.append(f"{program}: {_first(asked.stderr)}")
    return None, "; ".join(why)


def call(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end; raises EnvError when it is absent or takes too long."""
    try:
        return subprocess.run(
            (program, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise EnvError(f"{program} {words[0]} did not end in {_SECONDS} s") from None
    except OSError as error:
        raise EnvError(f"cannot run {program}: {error.strerror or error}") from error


def _absent(text: str) -> bool:
    """Whether the program complains that there is no such container: Docker and Podman say it alike."""
    return "no such" in text.lower()


def _first(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
