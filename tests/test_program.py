"""Programs with the openai client, each a real process: played, trained on, measured, ended on every path."""

import asyncio
import json
import logging
import os
import re
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from processes import alive, children, files, wait
from processes import command as command_of
from test_recording import episode
from test_recording import play as answered

from turngym.agents.tiny import model as shape
from turngym.agents.tiny import tokenizer as words_
from turngym.envs import AgentError, CheckpointError, Failure, UsageError
from turngym.trainers import models, program
from turngym.trainers.cli import main
from turngym.trainers.episodes import stored
from turngym.trainers.evaluate import Evaluation, evaluate
from turngym.trainers.habits import Habits, write
from turngym.trainers.player import Player, Setting
from turngym.trainers.recipes import RUNS
from turngym.trainers.rollout import Group, Limits, Spec, Trajectory
from turngym.trainers.rows import rows
from turngym.trainers.run import train
from turngym.trainers.settings import Run, worldless

AGENT = """
import os, sys, time, subprocess
from openai import OpenAI

task, seed = os.environ["TURNGYM_TASK"], int(os.environ["TURNGYM_SEED"])
client, messages, total = OpenAI(max_retries=0), [], 0
print("what a program prints is nobody's")
for turn in range(9 if task == "many" else 2):
    messages.append({"role": "user", "content": f"price {(seed + turn) % 9}"})
    reply = client.chat.completions.create(model="policy", messages=messages).choices[0].message
    messages.append({"role": "assistant", "content": reply.content})
    client.post("/episode/reward", cast_to=object, body={"reward": float(len(reply.content) % 2)})
    if task == "crash":
        print("one line", file=sys.stderr)
        raise SystemExit("the game broke")
    if task == "hang":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        time.sleep(1000)
    if task == "leave":
        sys.exit()
client.post("/episode/finish", cast_to=object, body={
    "success": True, "outcome": "env_error" if task == "broken" else "terminated"
})
if task == "stay":
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an agent's program and a model's folder."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "agent.py").write_text(AGENT)
    tokenizer = words_.build()
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    model = shape.build(len(tokenizer), pad=pad, end=end, seed=0, layers=1, width=32, heads=1)
    models.save(folder / "model", model, tokenizer)
    write(folder / "model", Habits(max_tokens=3))
    return folder


def command(place: Path) -> str:
    return shlex.join([sys.executable, str(place / "agent.py")])


def setting(place: Path, **more: Any) -> Setting:
    given = Setting("", (("train", ()),), str(place / "model"), max_tokens=3, together=False, slots=3)
    return replace(given, program=command(place), **more)


def play(given: Setting, *tasks: str, size: int = 1) -> dict[str, Group]:
    groups: list[Group] = []

    async def main() -> None:
        player = Player(given)
        try:
            await player.play([Spec(i, task, i, size) for i, task in enumerate(tasks)], groups.append)
        finally:
            await player.close()

    asyncio.run(asyncio.wait_for(main(), 240))
    return {g.spec.task: g for g in groups}


def test_outcomes_of_programs(place: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "LEAVING", 0.5)
    before = children(), files()
    with caplog.at_level(logging.WARNING, "turngym"):
        played = play(setting(place, requests=3), "fine", "crash", "leave", "broken", "many", "stay")
    outcomes = {task: [t.outcome for t in group.trajectories] for task, group in played.items()}
    assert outcomes == {
        "fine": ["terminated"], "crash": ["agent_error"], "leave": ["agent_error"], "broken": ["env_error"],
        "many": ["truncated"], "stay": ["terminated"],
    }  # fmt: skip
    said = "\n".join(r.getMessage() for r in caplog.records)
    assert "agent_error: the program ended with exit code 1: the game broke" in said
    assert "the program ended without POST /v1/episode/finish" in said and "PermissionDenied" not in said
    assert [len(t.turns) for t in played["many"].trajectories] == [3], "a limit of requests"
    wait(lambda: (children(), files()) == before)


def test_members_of_a_group_play_the_same_and_sample_otherwise(place: Path) -> None:
    group = play(setting(place), "fine", size=3)["fine"].trajectories
    assert len({t.turns[0].observation for t in group}) == 1
    assert len({t.turns[0].action.calls[0].sample.tokens for t in group}) > 1
    for t in group:
        assert len(t.turns) == 2 and len(rows(t)) == 1
        assert [turn.reward for turn in t.turns] == [float(len(turn.action.text) % 2) for turn in t.turns]
        assert t.info == {"success": True} and t.turns[1].observation[0].text.startswith("price")
    again = play(setting(place), "fine", size=3)["fine"].trajectories
    assert list(map(tokens, again)) == list(map(tokens, group)), "random numbers are keyed, whatever the timing"


def test_a_program_that_cannot_be_started_is_a_failed_episode(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(program, "LAUNCH", program.LAUNCH + " #" + "x" * 2**18)  # an argument too long for any exec
    with caplog.at_level(logging.WARNING, "turngym"):
        played = play(setting(place), "fine")["fine"].trajectories
    assert [t.outcome for t in played] == ["env_error"]
    assert "the program cannot be started: Argument list too long" in caplog.text


def test_what_fails_after_a_full_context_was_met_is_no_truncation() -> None:
    """Rule 3: the program went on, with a shorter prompt; a limit of the episode still stands after a reply."""
    for code, outcome in (("context_length_exceeded", "agent_error"), ("request_limit", "truncated")):
        at, failed = episode("chatml"), AgentError("the program ended with exit code 1")
        at.limit("too long", code)
        assert program.trajectory(at, Spec(0, "", 0), error=failed).outcome == "truncated"
        answered(at, [{"role": "user", "content": "a"}], (5,))
        assert program.trajectory(at, Spec(0, "", 0), error=failed).outcome == outcome
    at = episode("chatml")
    for code in ("request_limit", "context_length_exceeded"):
        at.limit("too long", code)
    answered(at, [{"role": "user", "content": "a"}], (5,))
    assert program.trajectory(at, Spec(0, "", 0), error=AgentError("")).outcome == "truncated"


def tokens(t: Trajectory) -> list[tuple[int, ...]]:
    return [call.sample.tokens for turn in t.turns for call in turn.action.calls]


def test_a_program_that_hangs_is_killed_with_all_that_it_started(place: Path) -> None:
    before = children()
    played = play(setting(place, limits=Limits(episode=12.0)), "hang", "fine")
    assert [t.outcome for g in ("hang", "fine") for t in played[g].trajectories] == ["timeout", "terminated"]
    wait(lambda: children() <= before)


def test_programs_do_not_outlive_a_player_that_is_killed(place: Path) -> None:
    code = f"""
import asyncio
from turngym.trainers.player import Player, Setting
from turngym.trainers.rollout import Limits, Spec

async def main():
    await Player({setting(place)!r}).play([Spec(0, "hang", 0)], print)

asyncio.run(main())
"""
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])
    try:
        wait(lambda: any("time.sleep(1000)" in command_of(p) for p in children(pid)), seconds=400)
        started = children(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    wait(lambda: not any(map(alive, started)))


@pytest.mark.parametrize("there", [4, 1])
def test_a_cancelled_play_leaves_no_program(place: Path, there: int) -> None:
    before = children()  # of 1 there they are still being started, and cancelled again while they are ended

    async def main() -> None:
        player = Player(setting(place))
        playing = asyncio.create_task(player.play([Spec(0, "hang", 0, 2)], lambda group: None))
        while len(children() - before) < there:
            await asyncio.sleep(0.05 if there > 1 else 0)
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        assert children() <= before
        await player.close()
        await player.close()

    asyncio.run(asyncio.wait_for(main(), 120))


def settings(place: Path, out: Path, **changes: Any) -> Run:
    run = worldless(replace(RUNS["m_grpo"](), program=command(place), tasks=3, model=str(place / "model")))
    return replace(
        run, out=str(out), steps=2, groups=2, size=2, workers=1, threads=1, checkpoint_every=1, slots=3, **changes
    )


def test_a_run_trains_on_what_the_proxy_recorded(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(settings(place, out))
    updates = list(stored(out))
    assert [len(u.groups) for u in updates] == [2, 2]
    for update in updates:
        for group in update.groups:
            assert group.spec.task in "012"
            for t in group.trajectories:
                assert t.outcome == "terminated" and len(rows(t)) == 1
                assert {v for turn in t.turns for v in turn.action.calls[0].sample.versions} == {update.step - 1}
    facts = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [f["lag_max"] for f in facts] == [0, 0] and [f["outcome/terminated"] for f in facts] == [1, 1]
    start, end = (models.load(str(f))[0].state_dict() for f in (place / "model", out))
    assert any((start[k] != end[k]).any() for k in start), "nothing was learned"
    train(replace(settings(place, out), steps=3), resume=True)
    assert len(list(stored(out))) == 3
    with pytest.raises(CheckpointError, match="tasks"):
        train(replace(settings(place, out), tasks=4), resume=True)


def test_a_program_is_measured(place: Path) -> None:
    wanted = Evaluation(agent=str(place / "model"), program=command(place), episodes=3, workers=1)
    measured = evaluate(wanted)
    assert measured.success.episodes == 3 and measured.success.mean == 1.0
    with pytest.raises(UsageError, match="leave out --levels"):
        evaluate(replace(wanted, levels=(1,)))
    with pytest.raises(UsageError, match="needs a model's folder"):
        evaluate(replace(wanted, agent="gold"))


def test_a_measured_program_has_limits(place: Path) -> None:
    agent = """
from openai import OpenAI
import time
client = OpenAI(max_retries=0)
for turn in range(3):
    client.chat.completions.create(model="policy", messages=[{"role": "user", "content": "a"}])
client.post("/episode/finish", cast_to=object, body={"success": True})
"""
    (place / "thrice.py").write_text(agent)
    (place / "idle.py").write_text("import time; time.sleep(1000)")
    wanted = Evaluation(agent=str(place / "model"), program=f"{sys.executable} {place / 'thrice.py'}", workers=1)
    measured = evaluate(replace(wanted, episodes=1, max_turns=(2, 3)))
    assert {limit: r.success.mean for limit, r in measured.by_max_turns.items()} == {"2": 0.0, "3": 1.0}
    idle = replace(wanted, program=f"{sys.executable} {place / 'idle.py'}", episodes=2, episode_seconds=0.5)
    with pytest.raises(Failure, match="timeout"):
        evaluate(idle)
    for changes, said in [
        ({"max_turns": (0,)}, "max_turns must be at least 1"),
        ({"episode_seconds": -1.0}, "episode_seconds must be at least 0"),
        ({"program": ""}, "give --program, or leave out episode_seconds"),
    ]:
        with pytest.raises(UsageError, match=said):
            evaluate(replace(idle, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "parser"}, "leave out --engine"),
        ({"env": "turngym/WebShop-v0"}, "leave out --env"),
        ({"demonstrations": 3, "memory": "full"}, "leave out --memory, --demonstrations"),
        ({"exact": True}, "cannot wait for each other: leave out --exact"),
        ({"program": ""}, "give --program"),
        ({"program": "no-such-program x"}, "no command 'no-such-program'"),
        ({"program": "a 'b"}, "no command line"),
        ({"program": " "}, "is empty"),
        ({"tasks": 0}, "tasks must be at least 1"),
    ],
)
def test_what_says_nothing_to_a_program_is_refused(
    changes: dict[str, Any], said: str, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        train(replace(settings(place, tmp_path / "none"), **changes))
    assert not (tmp_path / "none").exists()


def test_the_command_line_fits_a_run_to_a_program(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "m_grpo", "--program", command(place), "--tasks", "7", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "note: episodes of programs wait for nobody" in shown
    for line in (r"exact +false", r"demonstrations +0", r"tasks +7", r"env +''"):
        assert re.search(line.replace(" +", r" += "), shown), line
    for words, said in (("--engine parser", "leave out --engine"), ("--env turngym/WebShop-v0", "leave out --env")):
        assert main(["train", "m_grpo", "--program", command(place), *words.split()]) == 2
        assert said in capsys.readouterr().err
    assert main(["eval", "--agent", "random", "--program", command(place)]) == 2
    assert "needs a model's folder" in capsys.readouterr().err
