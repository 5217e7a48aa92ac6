"""The demonstration's own parts; the whole is what continuous integration runs after the tests."""

from pathlib import Path

from turngym.agents import Action, Turn
from turngym.envs import user
from turngym.trainers import demo
from turngym.trainers.report import Score, report
from turngym.trainers.rollout import Trajectory


def some_report(wins: int, n: int = 10):
    return report([Score("add_one", 2, i < wins, 4, "terminated") for i in range(n)], environment="", seconds=1.0)


def test_the_plan_trains_three_levels_and_the_long_one_four() -> None:
    short, long = demo.plan(demo.Demo()), demo.plan(demo.Demo(long=True, seed=3))
    assert (short.levels, long.levels, long.seed) == ((1, 2, 3), (1, 2, 3, 4), 3)
    assert short.out != long.out and demo.plan(demo.Demo(out="x")).out == "x"


def test_the_result_holds_every_report_and_the_machine() -> None:
    run = demo.plan(demo.Demo())
    reports = {"start": some_report(0), "warmup": some_report(4), "rl": some_report(9), "level 4": some_report(1)}
    result = demo.result(run, reports, {"start": 1.0}, {"warmup_seconds": 2.0, "seconds": 3.0})
    assert result["rl"] == some_report(9).to_json() and result["level_4"]["success"]["mean"] == 0.1
    assert result["seconds"] == {"start": 1.0, "train/warmup": 2.0, "train/rl": 3.0}
    assert result["machine"]["cores"] >= 1 and result["seed"] == 0


def test_the_last_words_name_the_controls_and_three_commands() -> None:
    controls = demo.committed()
    assert len(controls) == 2 and all(rate.success.episodes >= 100 for rate in controls.values())
    words = demo.closing(Path("runs/x"), {"rl": some_report(9)}, controls, {"rl": 60.0})
    assert all(name in words for name in controls) and words.count("\n  turngym ") == 3


def test_a_replay_shows_each_turn_and_the_end() -> None:
    info = {
        "goal": "g",
        "template": "add_one",
        "level": 2,
        "success": True,
        "screenshot": b"1",
        "final_screenshot": b"2",
    }
    turns = (Turn(user("page"), Action("act"), 1.0, info),)
    shown = demo.replay(Trajectory("t", "add_one", 0, 0, 0, turns, user("last"), "terminated"))
    assert [(s.observation, s.action, s.screenshot) for s in shown.steps] == [("page", "act", b"1"), ("last", "", b"2")]
    assert (shown.goal, shown.level, shown.success) == ("g", 2, True)
