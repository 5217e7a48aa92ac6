"""Browsers that stay, as real processes: started, found dead or alive, replaced and ended without a trace."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from processes import wait

from turngym.envs.errors import EnvError, UsageError
from turngym.envs.web import browsers, processes
from turngym.envs.web.browsers import down, status, up
from turngym.envs.web.processes import Processes, _commands
from turngym.envs.web.remote import VARIABLE, Browser, endpoints, load, save
from turngym.trainers.cli import main

OUTSIDE = [sys.executable, "-c", "import sys; from turngym.trainers.cli import main; sys.exit(main())", "browsers"]
UP = ["browsers", "up", "--kind", "processes"]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of browsers in an empty working directory; what a test leaves is ended."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    yield Path("runs/browsers")
    for group in groups(tmp_path):
        os.killpg(group, signal.SIGKILL)
        wait(lambda group=group: not list(_commands(group)))  # type: ignore[misc]


def chromium(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *lines: str) -> None:
    """Put a script in the browser's place."""
    script = tmp_path / "chromium"
    script.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    script.chmod(0o755)
    monkeypatch.setenv("TURNGYM_CHROMIUM", str(script))


def groups(home: Path) -> set[int]:
    """The process groups that run browsers with folders beneath ``home``."""
    listed = subprocess.run(["ps", "-axww", "-o", "pgid=,command="], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if f"--user-data-dir={home}/" in line}


def runs(pid: int) -> bool:
    """Whether the process lives; a zombie that nobody waited for yet does not."""
    said = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(said) and said[0] != "Z"


def states(folder: Path) -> list[str]:
    return [state for _, state in status(folder)]


def test_up_status_down(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*UP, "--count", "2"]) == 0
    table, _, line = capsys.readouterr().out.rstrip().rpartition("\n\n")
    one, two = load(folder)
    assert [row.split() for row in table.splitlines()] == [
        ["name", "endpoint", "kind", "state"],
        ["browser-0", one.endpoint, "process", "running"],
        ["browser-1", two.endpoint, "process", "running"],
    ]
    assert line == f"export {VARIABLE}={one.endpoint},{two.endpoint}"
    assert endpoints() == (one.endpoint, two.endpoint)
    assert all(e.startswith("http://127.0.0.1:") for e in endpoints())
    assert [Path(b.home).stat().st_mode & 0o777 for b in (one, two)] == [0o700, 0o700]
    assert "HeadlessChrome" in httpx.get(f"{two.endpoint}/json/version", trust_env=False).json()["Browser"]

    assert main(["browsers", "status", "--json", "new/status.json"]) == 0
    assert capsys.readouterr().out.rstrip() == table
    said = [{"name": b.name, "endpoint": b.endpoint, "kind": "process", "state": "running"} for b in (one, two)]
    assert json.loads(Path("new/status.json").read_text()) == said

    found = groups(Path.cwd())
    assert found == {int(one.id), int(two.id)}
    assert main(["browsers", "down"]) == 0
    assert capsys.readouterr().out.count("ended") == 2
    assert [list(_commands(group)) for group in found] == [[], []] and not folder.exists()
    assert main(["browsers", "down"]) == 0
    assert capsys.readouterr().out == "no browsers are listed in runs/browsers\n"
    assert main(["browsers", "status"]) == 1
    assert "start some with: turngym browsers up" in capsys.readouterr().out


def test_browsers_outlive_the_command_and_a_second_one_ends_them(tmp_path: Path) -> None:
    there = ["--out", str(tmp_path / "else where")]
    done = subprocess.run([*OUTSIDE, "up", "--kind", "processes", *there], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (browser,) = load(tmp_path / "else where")
    assert f"export {VARIABLE}={browser.endpoint}\n" in done.stdout
    assert main(["browsers", "status", *there]) == 0
    assert os.getsid(int(browser.id)) == int(browser.id)  # a hang-up of the terminal does not reach it
    subprocess.run([*OUTSIDE, "down", *there], check=True, stdout=subprocess.DEVNULL)
    wait(lambda: not list(_commands(int(browser.id))))
    assert list(tmp_path.iterdir()) == []


def test_up_again_keeps_what_runs_and_replaces_what_does_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = up(folder, 2, "processes")
    assert up(folder, 1) == (first, second)
    os.killpg(int(first.id), signal.SIGKILL)
    wait(lambda: states(folder) == ["dead", "running"])
    assert main(["browsers", "status"]) == 1
    assert "browser-0" in (said := capsys.readouterr().out) and "dead" in said.splitlines()[1]
    again, still, third = up(folder, 3)
    assert still == second and again.name == first.name and again.id != first.id and third.name == "browser-2"
    assert not Path(first.home).exists()
    assert states(folder) == ["running"] * 3
    os.killpg(int(again.id), signal.SIGKILL)
    assert [browser.name for browser in down(folder)] == ["browser-0", "browser-1", "browser-2"]
    assert groups(Path.cwd()) == set()


def test_a_browser_whose_starter_died_is_still_found_and_ended(folder: Path) -> None:
    """Debian's command is a script that stays: its end is not the browser's."""
    (browser,) = up(folder, 1, "processes")
    if len([c for c in _commands(int(browser.id)) if "--user-data-dir" in c]) > 1:
        os.kill(int(browser.id), signal.SIGKILL)
        wait(lambda: not runs(int(browser.id)))
        assert states(folder) == ["running"]
    down(folder)
    assert list(_commands(int(browser.id))) == []


def test_a_browser_that_hangs_does_not_answer_and_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsers, "_PATIENCE", 0.3)
    (browser,) = up(folder, 1, "processes")
    os.killpg(int(browser.id), signal.SIGSTOP)
    assert states(folder) == ["not answering"]
    monkeypatch.setattr(processes, "_GRACE", 2.0)  # a stopped process does not heed the first signal
    down(folder)
    assert list(_commands(int(browser.id))) == []


def test_another_process_with_the_same_number_is_left_alone(folder: Path) -> None:
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        folder.mkdir(parents=True)
        home = folder.resolve() / "browser-0-abc"
        home.mkdir()
        save(folder, [Browser("browser-0", "process", str(other.pid), str(home), "http://127.0.0.1:9")])
        assert states(folder) == ["dead"]
        assert len(down(folder)) == 1
        assert other.poll() is None and not home.exists()
    finally:
        other.kill()
        other.wait()


def test_no_folder_of_others_is_removed(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    dead = Browser("browser-0", "process", "99999999", str(tmp_path / "mine"), "http://127.0.0.1:9")
    save(folder, [dead, replace(dead, home="")])
    assert len(down(folder)) == 2
    assert (tmp_path / "mine").exists() and tmp_path.exists()


@pytest.mark.parametrize(("kind", "id"), [("process", "1"), ("process", "-5"), ("process", "x"), ("chroot", "7")])
def test_a_list_of_unknown_things_is_one_line(folder: Path, kind: str, id: str) -> None:
    folder.mkdir(parents=True)
    save(folder, [Browser("browser-0", kind, id, "", "http://127.0.0.1:9")])
    for does in (down, status):
        with pytest.raises(UsageError, match="unknown kind"):
            does(folder)


def test_one_that_does_not_start_is_one_line_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (kept,) = up(folder, 1, "processes")
    chromium(monkeypatch, tmp_path, "sleep 600 &", f"echo $! >{tmp_path}/child", "echo no display >&2", "exit 1")
    assert main([*UP, "--count", "2"]) == 1
    assert capsys.readouterr().err == "turngym: error: browser-1 ended at once: no display\n"
    child = int((tmp_path / "child").read_text())
    wait(lambda: not runs(child))
    assert load(folder) == (kept,) and states(folder) == ["running"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(["browsers.json", Path(kept.home).name])
    down(folder)


def test_a_user_who_stops_it_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(endpoint: str) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(browsers, "answers", stopped)
    with pytest.raises(KeyboardInterrupt):
        up(folder, 2, "processes")
    assert groups(Path.cwd()) == set() and list(folder.iterdir()) == []


def test_one_that_never_answers_is_ended(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chromium(monkeypatch, tmp_path, "sleep 600")
    monkeypatch.setattr(browsers, "_SECONDS", 0.3)
    with pytest.raises(EnvError, match="browser-0 did not answer in 0.3 s: it said nothing"):
        up(folder, 1, "processes")
    assert groups(tmp_path) == set()


def test_what_a_killed_command_began_is_found_and_ended(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chromium(monkeypatch, tmp_path, "sleep 600")
    with subprocess.Popen([*OUTSIDE, "up", "--kind", "processes"]) as command:
        wait(lambda: states(folder) == ["not answering"])
        command.kill()
    with pytest.raises(UsageError, match="browsers.json holds ''"):
        endpoints()
    assert len(down(folder)) == 1 and groups(tmp_path) == set()


def test_two_commands_at_once_do_not_meet(folder: Path) -> None:
    folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        for does in (lambda: up(folder, 1, "processes"), lambda: down(folder)):
            with pytest.raises(UsageError, match="another turngym browsers is at work"):
                does()
    finally:
        os.close(handle)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "say what to do: turngym browsers up, down or status"),
        ("--out a", "say what to do: turngym browsers up, down or status"),
        ("upp", "unknown action upp; did you mean up?"),
        ("up --count 0", "--count must be at least 1, not 0"),
        ("up --kind process", "argument --kind: unknown value process; did you mean processes? (see turngym"),
        ("up --out /dev/null/a", "cannot use /dev/null/a: Not a directory"),
        ("status --out a --kind auto", "unknown option --kind"),
    ],
)
def test_a_mistake_is_one_line(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["browsers", *words.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"turngym: error: {line}") and said.count("\n") == 1


def test_help_comes_for_each_action(capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("up", "down", "status"):
        assert main(["browsers", action, "--help"]) == 0
        assert f"usage: turngym browsers {action}" in capsys.readouterr().out


def test_processes_leave_no_core(folder: Path) -> None:
    (browser,) = up(folder, 1, "processes")
    limits = Path(f"/proc/{browser.id}/limits")
    if limits.exists():
        (line,) = (line for line in limits.read_text().splitlines() if line.startswith("Max core file size"))
        assert line.split()[4:6] == ["0", "0"]
    down(folder)


def test_without_proc_the_list_of_processes_says_the_same(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What macOS has: ps; here it must find what /proc shows."""
    (browser,) = up(folder, 1, "processes")
    group = int(browser.id)
    proc = processes._PROC

    def seen(proc: Path) -> list[str]:
        monkeypatch.setattr(processes, "_PROC", proc)
        return sorted(" ".join(command.split()) for command in _commands(group))

    wait(lambda: seen(proc) == seen(Path("/nowhere")))  # they may still be at their start
    assert len(seen(Path("/nowhere"))) > 1
    assert Processes(folder).alive(browser)
    down(folder)
    assert groups(Path.cwd()) == set()
