"""Which browser is found, in which order, and how one is installed when there is none."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from turngym.envs.errors import UsageError
from turngym.envs.web import chromium
from turngym.envs.web.chromium import find, flags, install, main

Put = Callable[[str], str]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Makes an executable in an otherwise empty machine."""
    for name in ("bin", "browsers"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "browsers"))
    monkeypatch.delenv(chromium.VARIABLE, raising=False)

    def make(path: str, script: str = "") -> str:
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)
        return str(place)

    return make


def test_the_order(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("google-chrome-stable", "google-chrome", "chromium", "chromium-headless-shell"):
        put(f"bin/{name}")
        found.append(Path(find()).name)
    assert found == ["google-chrome-stable", "google-chrome", "chromium", "chromium-headless-shell"]
    assert Path(find(headless=False)).name == "chromium"
    own = put("browsers/chromium-1200/chrome-linux64/chrome")
    assert find() == find(headless=False) == own
    put("browsers/chromium_headless_shell-900/chrome-linux/headless_shell")
    shell = put("browsers/chromium_headless_shell-1200/chrome-headless-shell-linux64/chrome-headless-shell")
    assert find() == shell
    named = put("bin/mine")
    monkeypatch.setenv(chromium.VARIABLE, named)
    assert find() == find(headless=False) == named


def test_none_is_one_clear_line(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="apt-get install chromium-headless-shell") as caught:
        find()
    assert "\n" not in str(caught.value)
    put("bin/chromium-headless-shell")
    with pytest.raises(UsageError, match="no Chromium with windows"):
        find(headless=False)
    monkeypatch.setenv(chromium.VARIABLE, "/nowhere/chrome")
    with pytest.raises(UsageError, match="TURNGYM_CHROMIUM names no executable: /nowhere/chrome"):
        install()


def test_apt_get_installs_the_shell(put: Put, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    log, shell = tmp_path / "log", tmp_path / "bin/chromium-headless-shell"
    copy = f'case "$*" in *install*) /bin/cp /bin/true {shell};; esac'
    put("bin/apt-get", f'echo "$@" >> {log}; {copy}')
    assert install() == str(shell)
    assert log.read_text().splitlines() == [
        "-qq update",
        "-qq install -y --no-install-recommends chromium-headless-shell",
    ]
    assert install() == str(shell)  # found: nothing more to do
    assert len(log.read_text().splitlines()) == 2


def test_without_root_sudo_is_asked_and_playwright_comes_last(
    put: Put, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "executable", put("bin/python", f'echo "python $@" >> {log}; exit 1'))
    put("bin/apt-get", f'echo "apt-get $@" >> {log}')
    put("bin/sudo", f'echo "sudo $@" >> {log}; exit 1')
    with pytest.raises(UsageError, match="no Chromium found"):
        install()
    assert log.read_text().splitlines() == ["sudo -n true", "python -m playwright install chromium-headless-shell"]


def test_main_prints_the_path_or_one_line(
    put: Put, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chromium, "_ways", lambda: iter(()))
    assert main() == 1
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    path = put("bin/chromium")
    assert main() == 0
    assert capfd.readouterr() == (f"{path}\n", "")


@pytest.mark.parametrize(("user", "unboxed"), [(0, True), (1000, False)])
def test_only_root_runs_without_a_sandbox(monkeypatch: pytest.MonkeyPatch, user: int, unboxed: bool) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert ("--no-sandbox" in flags()) is unboxed
