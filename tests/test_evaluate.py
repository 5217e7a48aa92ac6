"""Evaluations play what was asked for and count it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from turngym.envs import CheckpointError, UsageError
from turngym.envs.web.suite import TEMPLATES
from turngym.trainers import cli
from turngym.trainers.evaluate import Evaluation, evaluate, play, world

SHOP = "turngym/WebShop-v0"
SEEN = [t.name for t in TEMPLATES if t.split == "train"]


def test_gold_solves_everything_and_levels_are_counted() -> None:
    report = evaluate(Evaluation(env=SHOP, agent="gold", engine="parser", episodes=18, workers=2))
    assert report.success.mean == 1.0 and report.success.episodes == 18
    assert set(report.by_level) == {"1", "2", "3", "4"}
    assert report.by_template["add_three"].episodes == 2


def test_clicking_at_random_solves_next_to_nothing() -> None:
    report = evaluate(Evaluation(env=SHOP, agent="random", engine="parser", episodes=54, workers=1))
    assert report.success.mean < 0.1
    assert sum(report.outcomes.values()) == 54 and set(report.outcomes) <= {"terminated", "truncated"}


def test_turn_limits_are_measured_each() -> None:
    report = evaluate(Evaluation(env=SHOP, agent="gold", episodes=9, max_turns=(3, 12), workers=1))
    assert report.by_max_turns["12"].success.mean == 1.0
    assert report.by_max_turns["3"].success.mean == pytest.approx(
        4 / 9
    )  # up to three turns, or four with an exit that adds nothing


def test_the_same_seed_plays_the_same_episodes() -> None:
    asked = Evaluation(env=SHOP, agent="random", episodes=9, workers=1)
    one, two = play(asked, world(asked)), play(asked, world(asked))
    assert [(t.seed, t.task, t.turns) for t in one] == [(t.seed, t.task, t.turns) for t in two]
    other = Evaluation(env=SHOP, agent="random", episodes=9, workers=1, seed=1)
    assert [t.seed for t in play(other, world(other))] != [t.seed for t in one]


def test_the_browser_plays_as_the_parser_and_is_recorded() -> None:
    asked = Evaluation(env=SHOP, agent="gold", engine="browser", episodes=2, levels=(2,), workers=1)
    played = play(asked, world(asked), record=True)
    plain = Evaluation(env=SHOP, agent="gold", engine="parser", episodes=2, levels=(2,), workers=1)
    same = play(plain, world(plain))
    assert [[turn.observation for turn in t.turns] for t in played] == [
        [turn.observation for turn in t.turns] for t in same
    ]
    shots = [turn.info["screenshot"] for t in played for turn in t.turns] + [t.info["final_screenshot"] for t in played]
    assert all(shot.startswith(b"\x89PNG") for shot in shots) and len(set(shots)) > 4


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for agent in (str(tmp_path), "no/such-model"):
        with pytest.raises(CheckpointError, match="is not a model folder or hub id"):
            evaluate(Evaluation(agent=agent, episodes=1))
    for changes in (
        {"episodes": 0},
        {"workers": 0},
        {"seed": -1},
        {"device": "gpu"},
        {"levels": (9,)},
        {"template": "steal"},
        {"split": "secret"},
        {"engine": "lynx"},
        {"prompt": "loud"},
        {"memory": "full"},
        {"max_turns": (-1,)},
    ):
        with pytest.raises(UsageError):
            evaluate(Evaluation(**({"agent": "gold", "workers": 1} | changes)))  # type: ignore[arg-type]


def test_the_command_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    words = f"eval --env turngym/WebShop-v0 --agent gold --engine parser --episodes 4 --levels 1 --json {file}"
    assert cli.main(words.split()) == 0
    low = pytest.approx(0.51, abs=0.01)
    assert json.loads(file.read_text())["success"] == {"mean": 1.0, "low": low, "high": 1.0, "episodes": 4}
    assert "100.0 %" in capsys.readouterr().out


def test_gold_thinks_where_a_world_asks_for_it() -> None:
    asked = Evaluation(env=SHOP, agent="gold", engine="parser", episodes=2, levels=(1,), workers=1, prompt="thinking")
    played = play(asked, world(asked))
    texts = [turn.action.text for t in played for turn in t.turns]
    assert all(text.startswith("<think>") and text.endswith("</answer>") for text in texts) and len(texts) > 2
    assert all("<think>" in t.turns[0].observation[0].text and t.reward == 1.0 for t in played)
    plain = replace(asked, prompt="")
    same = [turn.action.text for t in play(plain, world(plain)) for turn in t.turns]
    assert [text.partition("<answer>")[2].removesuffix("</answer>") for text in texts] == same


def test_the_suite_is_what_is_measured_unless_another_world_is_asked_for() -> None:
    report = evaluate(Evaluation(agent="gold", engine="parser", episodes=len(SEEN), workers=1))
    assert report.environment == "turngym/WebSuite-v0, parser" and report.success.mean == 1.0
    assert {*report.by_template} == {*SEEN} and {"add_one", "vote_one", "vote_and_add"} < {*SEEN}
