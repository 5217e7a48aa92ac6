"""Find a Chromium, or install one: ``python -m turngym.envs.web.chromium`` prints its path."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import UsageError

VARIABLE = "TURNGYM_CHROMIUM"
HOW = (
    "no Chromium found: apt-get install chromium-headless-shell, or python -m playwright install chromium,"
    f" or set {VARIABLE} to an executable"
)
_SHELLS = ("chrome-headless-shell", "headless_shell")
_APPS = ("Chromium", "Google Chrome for Testing", "Google Chrome")
# What Playwright 1.65 disables of Chromium; of two such flags only the last counts.
_PLAYWRIGHTS = (
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "TcpPortRandomizationWin",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "PreconnectToSearch",
)
_SECONDS = 900  # a download may be slow, but not endless


def find(*, headless: bool = True) -> str:
    """The executable to run: the variable's, Playwright's own, then the system's.

    A visible browser (``headless=False``) cannot be a headless shell. Raises UsageError when there is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        path = shutil.which(named)
        if not path:
            raise UsageError(f"{VARIABLE} names no executable: {named}")
        return path
    for candidate in (*_playwrights(headless), *_systems(headless)):
        path = shutil.which(candidate)
        if path:
            return path
    if not headless:
        raise UsageError("no Chromium with windows found: apt-get install chromium, or google-chrome")
    raise UsageError(HOW)


def install() -> str:
    """The executable found, else installed by apt-get or Playwright; raises UsageError when neither can."""
    try:
        return find()
    except UsageError:
        if os.environ.get(VARIABLE):
            raise
    for commands in _ways():
        if all(_runs(command) for command in commands):
            try:
                return find()
            except UsageError:
                continue  # installed something that is not a browser, such as a package that only points to snap
    raise UsageError(HOW)


def flags() -> list[str]:
    """Launch flags: no services of its own, no network but what the episode's proxy settings let through."""
    quiet = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        # WebRTC and DNS would pass by a proxy.
        "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost , EXCLUDE *.localhost",
    ]
    root = sys.platform != "win32" and os.geteuid() == 0
    return [*quiet, "--no-sandbox"] if root else quiet  # Chromium refuses to sandbox for root


def fast() -> list[str]:
    """More flags, for a browser of our own: one process for all pages of a context, of limited memory.

    A page of another site would otherwise start a process, which takes longer than all else in an episode's reset;
    contexts never share one. Without RenderDocument a frame and its compositor serve one page of a site after
    another, which saves a third of a navigation.
    """
    return [
        "--disable-site-isolation-trials",
        "--renderer-process-limit=1",
        "--js-flags=--max-old-space-size=512",  # MiB
        "--disable-features=" + ",".join(("RenderDocument", *_PLAYWRIGHTS)),
    ]


def _playwrights(headless: bool) -> Iterator[str]:
    """Executables that Playwright downloaded, newest revision first."""
    place = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    if place == "0":  # Playwright's way to say: inside the package
        spec = find_spec("playwright")
        if not spec or not spec.origin:
            return
        folder = Path(spec.origin).parent / "driver/package/.local-browsers"
    elif place:
        folder = Path(place)
    else:
        caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
        folder = Path.home() / caches / "ms-playwright"
    apps = tuple(f"{app}.app/Contents/MacOS/{app}" for app in _APPS)
    kinds = [("chromium_headless_shell", _SHELLS)] if headless else []
    for kind, names in [*kinds, ("chromium", ("chrome", *apps))]:
        for revision in sorted(folder.glob(f"{kind}-*"), key=_revision, reverse=True):
            for name in names:
                yield from map(str, revision.glob(f"*/{name}"))


def _revision(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _systems(headless: bool) -> Iterator[str]:
    if headless:
        yield "chromium-headless-shell"
    yield from ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    for app in _APPS:
        yield f"/Applications/{app}.app/Contents/MacOS/{app}"


def _ways() -> Iterator[Sequence[Sequence[str]]]:
    """Ways to install, best first, each a sequence of commands."""
    if shutil.which("apt-get"):
        root = os.geteuid() == 0
        if root or (shutil.which("sudo") and _runs(["sudo", "-n", "true"])):
            apt = ["apt-get", "-qq"] if root else ["sudo", "-n", "apt-get", "-qq"]
            for package in ("chromium-headless-shell", "chromium"):
                yield [[*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", package]]
    if find_spec("playwright"):
        yield [[sys.executable, "-m", "playwright", "install", "chromium-headless-shell"]]


def _runs(command: Sequence[str]) -> bool:
    """Whether ``command`` succeeds; its output goes to stderr, because stdout is for the path."""
    try:
        return subprocess.run(command, stdout=sys.stderr, timeout=_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return False


def main() -> int:
    """Print the path of the browser found or installed; 1 and one line on stderr when there is none."""
    try:
        print(install())
    except UsageError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
