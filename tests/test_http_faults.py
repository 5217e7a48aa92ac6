"""Endpoints that fail during an evaluation cost episodes, a line each and nothing else; real processes fail here."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import children, command, wait

from turngym.envs import AgentError, Failure
from turngym.trainers.evaluate import Evaluation, evaluate
from turngym.trainers.report import Report, Usage

WORLD = '''
import os
import gymnasium as gym
from turngym.envs import Chat, Reply, user

class Even(gym.Env):
    """Four turns, which pay for actions of an even number of characters; writes down each turn."""

    def __init__(self):
        self.observation_space, self.action_space = Chat(), Reply(["a"])
        self.notes = os.environ.get("FAULTS_NOTES", "")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 4
        return user("price"), {}

    def step(self, action):
        self.left -= 1
        if self.notes:
            with open(self.notes, "a") as file:
                file.write("x")
        return user("more"), float(len(action) % 2 == 0), self.left == 0, False, {"success": True}

gym.register("Faults-v0", entry_point=Even)
'''
FAULTY = Path(__file__).with_name("faulty_server.py")


@contextmanager
def server(mode: str, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its url, once it listens."""
    words = [sys.executable, str(FAULTY), str(port), mode]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1", process
        finally:
            process.kill()


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("worlds")
    (folder / "faults_world.py").write_text(WORLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder), prepend=":")
        yield


def asked(url: str, **changes: Any) -> Evaluation:
    usual: dict[str, Any] = {"env": "faults_world:Faults-v0", "agent": url, "episodes": 6, "workers": 1}
    return Evaluation(**(usual | {"timeout": 1.0} | changes))


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What workers said of episodes."""
    return [line for line in capfd.readouterr().err.splitlines() if line.startswith("episode ")]


def test_tokens_and_cost_are_beside_success(capfd: pytest.CaptureFixture[str]) -> None:
    with server("well") as (url, _):
        report = evaluate(asked(url, workers=2, prices=(1.0, 10.0)))
    assert report.outcomes == {"terminated": 6} and lines(capfd) == []
    cost = (24 * 10 * 1.0 + 24 * 2 * 10.0) / 1e6
    assert report.usage == Usage(24, 0, 240, 48, pytest.approx(cost))
    wait(lambda: not [pid for pid in children() if "resource_tracker" not in command(pid)])


def test_errors_that_pass_cost_nothing_but_time(capfd: pytest.CaptureFixture[str]) -> None:
    with server("once") as (url, _):
        report = evaluate(asked(url, episodes=2))
    assert report.outcomes == {"terminated": 2} and lines(capfd) == []
    assert report.usage and report.usage.requests == 8 and report.usage.retries >= 1 and report.usage.cost is None


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("error", "500: the engine is dead; asked 5 times"),
        ("hang", "nothing came for 0.2 s; asked 5 times"),
        ("garbage", 'the answer is no JSON: "<html>a proxy\'s page</html>"'),
        ("missing", "404: The model `policy` does not exist."),
        ("other", "'stranger' answered, not 'policy': another model is served there now"),
        ("mute", "the answer has no message"),
    ],
)
def test_a_server_that_only_fails_is_said_and_nothing_is_scored(
    mode: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with server(mode) as (url, _):
        with pytest.raises(Failure, match="^no episode could be scored: 3 agent_error$"):
            evaluate(asked(url, episodes=3, timeout=0.2))
    said = lines(capfd)
    assert len(said) == 3 and all("agent_error" in line and line.endswith(why) for line in said), said


def test_a_context_that_is_full_ends_the_episode_and_is_scored(capfd: pytest.CaptureFixture[str]) -> None:
    with server("full") as (url, _):
        report = evaluate(asked(url, episodes=3))
    assert report.outcomes == {"truncated": 3} and report.success.mean == 0.0 and lines(capfd) == []


def test_nobody_there_is_one_line_before_anything_is_played() -> None:
    with server("well") as (url, _):
        pass
    before = children()
    with pytest.raises(AgentError, match=f"^GET {url}/models: .*; asked 5 times$"):
        evaluate(asked(url))
    assert children() <= before


class Played(threading.Thread):
    """An evaluation that goes on while its server does not."""

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__()
        self.evaluation, self.report, self.error = evaluation, list[Report](), list[Exception]()

    def run(self) -> None:
        try:
            self.report.append(evaluate(self.evaluation))
        except Exception as error:  # the test says what it was
            self.error.append(error)


PHASES = {
    "killed": "All connection attempts failed",
    "error": "500: the engine is dead",
    "hang": "nothing came for 0.3 s",
    "garbage": "the answer is no JSON",
    "other": "another model is served there now",
}


def test_the_evaluation_goes_on_when_the_server_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Episodes that a fault meets are failures, with a line each; those before, between and after are scored."""
    notes, seen = tmp_path / "notes", list[str]()
    notes.touch()
    monkeypatch.setenv("FAULTS_NOTES", str(notes))

    def told(why: str) -> bool:
        seen.append(capfd.readouterr().err)
        return why in "".join(seen)

    def plays(more: int) -> None:
        least = notes.stat().st_size + more
        wait(lambda: notes.stat().st_size >= least, lambda: str(playing.error))

    with server("well") as (url, process):
        port = int(url.split(":")[2].split("/")[0])
        playing = Played(asked(url, episodes=600, rate=100.0, timeout=0.3))
        playing.start()
        plays(20)
        process.kill()
    for mode, why in PHASES.items():
        if mode == "killed":
            wait(lambda why=why: told(why), lambda: "".join(seen))  # type: ignore[misc]
        else:
            with server(mode, port):
                wait(lambda why=why: told(why), lambda: "".join(seen))  # type: ignore[misc]
        with server("well", port) as (_, process):
            plays(20)
            if mode == [*PHASES][-1]:
                playing.join(120)
    assert playing.error == [] and not playing.is_alive()
    (report,) = playing.report
    assert set(report.outcomes) == {"terminated", "agent_error"} and sum(report.outcomes.values()) == 600
    assert told("")
    lines = [line for line in "".join(seen).splitlines() if line.startswith("episode ")]
    assert len(lines) == report.failures and all(" agent_error: " in line for line in lines)
    assert report.success.mean == 1.0 and report.success.episodes == 600 - report.failures
