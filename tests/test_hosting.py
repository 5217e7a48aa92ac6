"""Agents behind a url, from the command line: what is asked, refused and reported."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Scripted, served

from turngym.agents.chat import Prompter
from turngym.agents.endpoint import Price, Spent
from turngym.agents.samplers import TorchSampler
from turngym.agents.serve import Service
from turngym.agents.tiny import BASE
from turngym.envs import CheckpointError, UsageError
from turngym.trainers import models
from turngym.trainers.cli import main
from turngym.trainers.evaluate import Evaluation, evaluate, play, world
from turngym.trainers.habits import Habits, write
from turngym.trainers.hosting import Host, is_url
from turngym.trainers.report import Report, Score, Usage, from_json, limits, report, table

SHOP = "turngym/WebShop-v0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded policy, used as a model that says nothing is."""
    place = tmp_path_factory.mktemp("model") / "base"
    shutil.copytree(BASE, place)
    write(place, Habits(max_tokens=24))
    return place


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    model, tokenizer = models.load(str(folder))
    sampler = TorchSampler(model, together=False)
    with served(Service(sampler, Prompter(tokenizer), "small").app) as at:
        yield at.url
    sampler.close()


def test_a_model_begins_the_same_behind_a_url_as_in_process(folder: Path, url: str) -> None:
    """Greedy. Later turns may differ: behind a url a model's own words are tokenised again, perhaps otherwise."""
    usual: dict[str, Any] = {"env": SHOP, "engine": "parser", "episodes": 9, "workers": 1, "max_turns": (2,)}
    here, there = Evaluation(agent=str(folder), **usual), Evaluation(agent=url, max_tokens=24, **usual)
    one, two = play(here, world(here, 2)), play(there, world(there, 2))
    assert [e.turns[0].action.text for e in one] == [e.turns[0].action.text for e in two]
    assert [e.turns[0].observation for e in one] == [e.turns[0].observation for e in two]
    assert len({e.turns[0].action.text for e in two}) > 1
    assert all(t.action.calls == () for e in two for t in e.turns)


def test_the_command_shows_tokens_and_cost(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    line = f"eval --env {SHOP} --agent {url} --served small --engine parser --episodes 2 --levels 1 --max-tokens 6"
    assert main(f"{line} --workers 1 --prices 2,8 --json {file}".split()) == 0
    head, row = capsys.readouterr().out.splitlines()[:2]
    used = json.loads(file.read_text())["usage"]
    assert head.split()[-3:] == ["read", "written", "cost"]
    assert row.split()[-3:] == [f"{used['read']:,}", f"{used['written']:,}", f"{used['cost']:.4f}"]
    assert used["read"] > 100 and 0 < used["written"] <= 6 * used["requests"] and used["retries"] == 0
    assert used["cost"] == pytest.approx((used["read"] * 2 + used["written"] * 8) / 1e6)


@pytest.mark.parametrize(
    ("words_", "why"),
    [
        ("--agent gold --served m", "--served would do nothing: the agent gold is no endpoint"),
        ("--agent random --key K --rate 3", "--key, --rate would do nothing: the agent random is no endpoint"),
        ("--agent gold --timeout 3 --prices 1,2", "--prices, --timeout would do nothing"),
        ("--agent gold --max-tokens 3", "writes no tokens"),
        ("--agent URL --device cuda", "--device would do nothing"),
        ("--agent URL --prices 3", "--prices wants two numbers"),
        ("--agent URL --prices 3,-1", "--prices wants two numbers"),
        ("--agent URL --rate -1", "a rate and a timeout of at least 0"),
        ("--agent URL --timeout -1", "a rate and a timeout of at least 0"),
        ("--agent URL --max-tokens -1", "max_tokens must be at least 0, not -1"),
        ("--agent URL --key NO_SUCH_KEY", "the environment has no NO_SUCH_KEY"),
        ("--agent URL --served large", "serves no large; it serves small"),
        ("--agent http://", "is no endpoint: give a url such as"),
        ("--agent http://u:pw@127.0.0.1:1/v1", "http://127.0.0.1:1/v1 with a name, a key or a query in it"),
    ],
)
def test_a_mistake_is_one_line(url: str, words_: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"eval --engine parser --episodes 1 {words_.replace('URL', url)}".split()) == 2
    assert why in (line := capsys.readouterr().err) and line.count("\n") == 1


def test_an_endpoint_of_several_models_wants_a_name() -> None:
    with served(Scripted(Answer(said={"data": [{"id": "a"}, {"id": "b"}]}))) as at:
        with pytest.raises(UsageError, match="lists a, b: name the one to ask with --served"):
            evaluate(Evaluation(agent=at.url, episodes=1, engine="parser"))


@pytest.mark.parametrize("recipe", ["webagent_r1", "grpo"])
def test_an_endpoint_cannot_be_trained(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", recipe, "--model", "http://127.0.0.1:8000/v1"]) == 2
    line = capsys.readouterr().err
    assert "is an endpoint, which can be measured (turngym eval --agent http://127.0.0.1:8000/v1)" in line
    assert line.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_a_folder_is_no_url() -> None:
    assert is_url("https://a/v1") and not is_url("runs/http") and not is_url("http")
    with pytest.raises(CheckpointError):
        models.load("httpd/no-such-folder")


def test_a_rate_is_shared_and_a_price_is_paid() -> None:
    host = Host("http://127.0.0.1:1/v1", "m", rate=2.0, price=Price(1.0, 4.0))
    assert host.usage(Spent(3, 1, 1_000_000, 500_000)) == Usage(3, 1, 1_000_000, 500_000, 3.0)
    assert Host("http://127.0.0.1:1/v1", "m").usage(Spent(3, 1, 10, 5)).cost is None

    async def ask() -> float:
        async with host.hosted().endpoint as endpoint:
            return endpoint._rate

    assert asyncio.run(ask()) == 2.0


def test_reports_add_up_what_was_used() -> None:
    def made(usage: Usage | None) -> Report:
        return report([Score("find", 1, True, 3, "terminated")], environment="e", seconds=1.0, usage=usage)

    one, two = made(Usage(1, 0, 10, 2, 0.5)), made(Usage(2, 1, 20, 3, 0.25))
    both = limits({5: one, 15: two})
    assert both.usage == Usage(3, 1, 30, 5, 0.75)
    assert from_json(json.loads(json.dumps(both.to_json()))).to_json() == both.to_json()
    assert limits({5: made(None), 15: made(None)}).usage is None and "usage" not in made(None).to_json()
    head, first, second, plain, *_ = table({"a": both, "b": made(None)}).splitlines()
    assert head.split()[-3:] == ["read", "written", "cost"]
    assert first.split()[-3:] == ["10", "2", "0.5000"] and second.split()[-3:] == ["20", "3", "0.2500"]
    assert plain.split()[-3:] == ["–"] * 3
    assert "cost" not in table({"a": made(Usage(1, 0, 10, 2, None))})
