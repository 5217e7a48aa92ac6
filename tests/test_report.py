"""Reports: what counts, what does not, and both ways of showing it."""

import json
from collections.abc import Sequence

import pytest

from turngym.envs import Failure
from turngym.trainers.report import Report, Score, from_json, limits, report, table
from turngym.trainers.statistics import interval

SCORES = [
    Score("find", 1, True, 3, "terminated"),
    Score("find", 2, False, 15, "truncated"),
    Score("order", 2, True, 7, "terminated"),
    Score("order", 10, False, 1, "env_error"),
    Score("order", 2, False, 2, "timeout"),
]


def made(scores: Sequence[Score] = SCORES, seconds: float = 2.0) -> Report:
    return report(scores, environment="turngym/WebShop-v0", seconds=seconds)


def test_failures_are_outcomes_and_no_defeats() -> None:
    found = made()
    assert found.success == interval(2, 3)
    assert found.by_level == {"1": interval(1, 1), "2": interval(1, 2)}
    assert found.by_template == {"find": interval(1, 2), "order": interval(1, 1)}
    assert found.turns == pytest.approx(25 / 3)
    assert found.outcomes == {"env_error": 1, "terminated": 2, "timeout": 1, "truncated": 1}
    assert found.failures == 2


@pytest.mark.parametrize(("scores", "message"), [(SCORES[3:], "1 env_error, 1 timeout"), ([], "none was played")])
def test_nothing_scored_is_a_failure(scores: list[Score], message: str) -> None:
    with pytest.raises(Failure, match=f"^no episode could be scored: {message}$"):
        made(scores)


def test_json_has_exactly_these_keys() -> None:
    data = json.loads(json.dumps(made().to_json()))
    assert set(data) == {"success", "by_level", "by_template", "turns", "outcomes"}
    rates = [data["success"], *data["by_level"].values(), *data["by_template"].values()]
    assert all(set(rate) == {"mean", "low", "high", "episodes"} for rate in rates)
    assert data["success"]["episodes"] == 3


def test_several_limits_are_the_largest_and_each() -> None:
    short, long = made(SCORES[:2]), made(seconds=5.0)
    both = limits({15: long, 5: short})
    assert both.success == long.success and both.seconds == 7.0
    data = both.to_json()
    assert list(data["by_max_turns"]) == ["5", "15"]
    assert data["by_max_turns"] == {"5": short.to_json(), "15": long.to_json()}
    assert limits({5: short}) == short


def test_json_is_read_back() -> None:
    for found in (made(), limits({15: made(), 5: made(SCORES[:2])})):
        data = json.loads(json.dumps(found.to_json()))
        again = from_json(data, environment=found.environment, seconds=found.seconds)
        assert again.to_json() == found.to_json()
        assert (again.environment, again.seconds) == (found.environment, found.seconds)
    assert from_json(made().to_json(), environment="turngym/WebShop-v0", seconds=2.0) == made()


def test_levels_are_in_the_order_of_numbers() -> None:
    scores = [Score("a", level, True, 1, "terminated") for level in (10, 9, 2)]
    assert list(made(scores).by_level) == ["2", "9", "10"]


def test_the_table_is_aligned_and_says_what_failed() -> None:
    text = table({"start": made(SCORES[:3]), "final": limits({5: made(SCORES[:2]), 15: made()})})
    overall, templates, failed = text.split("\n\n")
    assert [line.split("  ")[0] for line in overall.splitlines()[1:]] == ["start", "final, 5 turns", "final, 15 turns"]
    assert overall.splitlines()[0].split() == "success level 1 level 2 turns episodes failed seconds".split()
    assert "66.7 % (20.8–93.9)" in overall
    assert {len(line) for line in overall.splitlines()} == {len(overall.splitlines()[0])}
    assert [line.split()[0] for line in templates.splitlines()] == ["template", "find", "order"]
    assert templates.splitlines()[2].count("–") == 3  # two intervals, and an episode that the short run lacks
    assert failed == "final, 15 turns: 1 env_error, 2 terminated, 1 timeout, 1 truncated"
