"""Browsers in containers. Docker and Podman are stood in for by a small program that takes the same few commands and
starts real browsers; what Docker's own command line makes of the words is asked where it is installed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from turngym.envs.errors import EnvError, UsageError
from turngym.envs.web.browsers import down, status, up
from turngym.envs.web.chromium import find
from turngym.envs.web.containers import IMAGE, LIMITS, Containers, available, call
from turngym.envs.web.remote import Browser, load
from turngym.trainers.cli import main

STAND_IN = f"""#!{sys.executable}
import json, os, shutil, signal, subprocess, sys
from pathlib import Path
here = Path(__file__).resolve().parent.parent / "engine"
words = sys.argv[1:]
with open(here / "calls", "a") as calls:
    print(json.dumps(words), file=calls)
def fail(text, code=1):
    print(text, file=sys.stderr)
    sys.exit(code)
if (here / "down").exists():
    fail("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\\nIs it running?")
if words[:2] == ["image", "inspect"]:
    fail("Error response from daemon: No such image") if not (here / "image").exists() else print("sha256:1")
elif words == ["ps", "--quiet"]:
    pass
elif words[0] == "run":
    (name,) = (word.partition("=")[2] for word in words if word.startswith("--name="))
    if (here / "full").exists():
        fail("docker: Error response from daemon: no space left on device", 125)
    home = here / name
    flags = ["--headless", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={{home}}/profile"]
    command = ["/bin/sh", "-c", "echo no display >&2"] if (here / "broken").exists() else [{find()!r}, *flags]
    home.mkdir()
    with open(home / "log", "w") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)
    (home / "pid").write_text(str(process.pid))
    print("0123456789abcdef")
else:
    name = words[1] if words[0] == "port" else words[-1]
    home = here / name
    if not home.exists():
        fail(f"Error response from daemon: No such container: {{name}}")
    group = int((home / "pid").read_text())
    lives = subprocess.run(["pgrep", "-g", str(group)], stdout=subprocess.DEVNULL).returncode == 0
    if words[0] == "port":
        try:
            print("127.0.0.1:" + (home / "profile/DevToolsActivePort").read_text().split()[0])
        except OSError:
            fail("Error: No public port '9222/tcp' published")
    elif words[:2] == ["container", "inspect"]:
        print(str(lives).lower())
    elif words[0] == "logs":
        print((home / "log").read_text(), file=sys.stderr, end="")
    elif words[0] == "rm":
        if lives:
            os.killpg(group, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)
        print(name)
    else:
        fail("unknown command: " + words[0])
"""

Engine = Callable[[str], Path]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Puts a stand-in called docker or podman on the path, and nothing else of the kind; its folder."""
    tools, folder = tmp_path / "tools", tmp_path / "engine"
    tools.mkdir()
    folder.mkdir()
    (folder / "image").touch()
    for name in ("pgrep", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("TURNGYM_CHROMIUM", find())
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.chdir(tmp_path)

    def put(name: str) -> Path:
        (tools / name).write_text(STAND_IN)
        (tools / name).chmod(0o755)
        return folder

    yield put
    (folder / "down").unlink(missing_ok=True)
    for home in folder.glob("turngym-*"):
        for name in ("docker", "podman"):
            if (tools / name).exists():
                call(name, "rm", "--force", home.name)


def calls(engine: Path) -> list[list[str]]:
    return [json.loads(line) for line in (engine / "calls").read_text().splitlines()]


FOLDER = Path("runs/browsers")


@pytest.mark.parametrize(
    ("program", "sites"),
    [
        ("docker", ["--add-host=host.docker.internal:host-gateway", "--env=SITES_HOST=host.docker.internal"]),
        ("podman", ["--env=SITES_HOST=host.containers.internal"]),
    ],
)
def test_up_status_down(engine: Engine, program: str, sites: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = engine(program)
    assert main(["browsers", "up", "--count", "2"]) == 0
    one, two = load(FOLDER)
    assert (one.kind, two.kind) == (program, program)
    ran = [words for words in calls(folder) if words[0] == "run"]
    assert [words[words.index(f"--name={b.id}")] for words, b in zip(ran, (one, two), strict=True)]
    name = f"--name={one.id}"
    assert ran[0] == ["run", "--detach", "--pull=never", name, "--publish=127.0.0.1::9222", *LIMITS, *sites, IMAGE]
    assert one.id != two.id and one.id.startswith("turngym-browser-0-")
    assert main(["browsers", "status"]) == 0
    assert capsys.readouterr().out.count(f"{program}  running") == 4
    call(program, "rm", "--force", one.id)
    assert [state for _, state in status(FOLDER)] == ["dead", "running"]
    again, still = up(FOLDER, 2)
    assert still == two and again.id != one.id
    assert main(["browsers", "up", "--kind", "processes"]) == 2
    assert "containers run in runs/browsers already" in capsys.readouterr().err
    assert main(["browsers", "down"]) == 0
    assert list(folder.glob("turngym-*")) == [] and not FOLDER.exists()


def test_docker_comes_before_podman_and_one_that_answers_before_one_that_does_not(engine: Engine) -> None:
    assert available() == (None, "docker is not installed; podman is not installed")
    folder = engine("podman")
    assert available() == ("podman", "")
    engine("docker")
    assert available() == ("docker", "")
    (folder / "down").touch()
    said = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
    assert available() == (None, f"docker: {said}; podman: {said}")


def test_without_an_engine_processes_are_taken_or_one_line_says_why(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    (engine("docker") / "down").touch()
    assert main(["browsers", "up", "--kind", "containers"]) == 2
    assert capsys.readouterr().err == (
        "turngym: error: no containers: docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock.;"
        " podman is not installed; start its engine, or take --kind processes\n"
    )
    (browser,) = up(FOLDER, 1)
    assert browser.kind == "process"
    down(FOLDER)


def test_without_the_image_one_line_says_how_to_make_it(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    (engine("docker") / "image").unlink()
    assert main(["browsers", "up"]) == 2
    line = capsys.readouterr().err
    assert "docker build -f docker/browser.Dockerfile -t turngym-browser docker" in line and line.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("full", "docker run failed: docker: Error response from daemon: no space left on device"),
        ("broken", "browser-0 ended at once: no display"),
    ],
)
def test_one_that_does_not_start_is_one_line_and_leaves_nothing(engine: Engine, fault: str, line: str) -> None:
    folder = engine("docker")
    (folder / fault).touch()
    with pytest.raises(EnvError, match=line):
        up(FOLDER, 2)
    assert list(folder.glob("turngym-*")) == [] and load(FOLDER) == ()


def test_an_engine_that_went_away_is_no_dead_browser(engine: Engine) -> None:
    folder = engine("docker")
    up(FOLDER, 1)
    (folder / "down").touch()
    with pytest.raises(EnvError, match="docker cannot say how browser-0 is: Cannot connect"):
        status(FOLDER)
    with pytest.raises(EnvError, match="docker cannot remove turngym-browser-0-.*: Cannot connect"):
        down(FOLDER)
    assert len(load(FOLDER)) == 1
    (folder / "down").unlink()
    assert len(down(FOLDER)) == 1


def test_a_program_that_is_not_there_is_one_line(engine: Engine) -> None:
    with pytest.raises(EnvError, match="cannot run docker: No such file"):
        Containers("docker").alive(Browser("browser-0", "docker", "a", "", ""))


def test_one_that_takes_too_long_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turngym.envs.web.containers._SECONDS", 0.1)
    with pytest.raises(EnvError, match="sleep 60 did not end in 0.1 s"):
        call("sleep", "60")


def test_the_image_is_said_to_be_missing_before_anything_starts(engine: Engine) -> None:
    folder = engine("podman")
    (folder / "image").unlink()
    with pytest.raises(UsageError, match="podman has no image turngym-browser"):
        up(FOLDER, 1)
    assert not [words for words in calls(folder) if words[0] == "run"]


@pytest.mark.skipif(not shutil.which("docker"), reason="Docker's command line is not installed")
def test_dockers_own_command_line_takes_the_words() -> None:
    """It reads all of them before it looks for its daemon, which is not there."""
    nowhere = os.environ | {"DOCKER_HOST": "unix:///nowhere.sock"}

    def said(*words: str) -> str:
        return subprocess.run(["docker", *words], env=nowhere, capture_output=True, text=True).stderr

    assert "unknown flag" in said("run", "--no-such-flag", IMAGE)
    run = ("run", "--detach", "--pull=never", "--name=a", "--publish=127.0.0.1::9222", *LIMITS)
    for words in (
        (*run, "--add-host=host.docker.internal:host-gateway", "--env=SITES_HOST=host.docker.internal", IMAGE),
        ("ps", "--quiet"),
        ("image", "inspect", "--format={{.Id}}", IMAGE),
        ("container", "inspect", "--format={{.State.Running}}", "a"),
        ("port", "a", "9222/tcp"),
        ("logs", "--tail=1", "a"),
        ("rm", "--force", "--volumes", "a"),
    ):
        assert "daemon" in said(*words).lower() and "nowhere.sock" in said(*words)
