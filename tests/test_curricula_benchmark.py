"""The benchmark of curricula: whatever curricula there are, from end to end, and how misses are told."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

import turngym.envs
from turngym.trainers.bank.trial import Curve
from turngym.trainers.curricula import CURRICULA

FILE = Path(turngym.envs.__file__).resolve().parents[1] / "benchmarks" / "curricula.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_curricula", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def curve(*success: float, each: int) -> Curve:
    return Curve(success, success, responses=tuple(each * i for i in range(len(success))))


def test_every_curriculum_meets_every_planner(script) -> None:
    arms = script.arms(80)
    assert [*arms][0] == script.EVEN == ("uniform", "plain")
    assert set(arms) == {(c, p) for c in CURRICULA for p in ("plain", "stages", "resample", "ar3po")}
    assert len(set(arms.values())) == len(arms) and {a.recipe for a in arms.values()} == {"grpo"}
    for arm in arms.values():
        arm.check(arm.make())


def test_a_miss_counts_with_all_its_responses_and_is_said(script) -> None:
    even = [curve(0.0, 0.5, 1.0, each=100), curve(0.0, 0.5, 1.0, each=200)]  # 0.8 after 160 and 320
    ours = [curve(0.0, 1.0, 1.0, each=100), curve(0.0, 0.1, 0.2, each=300)]  # after 80, and never in 600
    row = script.told(("spread", "stages"), ours, even)
    assert row["misses"] == 1 and row["responses_to_goal"]["mean"] == pytest.approx(340)
    assert row["ratio"]["mean"] == pytest.approx((80 / 160 * 600 / 320) ** 0.5, rel=1e-4)
    assert "at least × 0.97" in script.table([row], 2) and "1 of 2" in script.table([row], 2)
    (same,) = [script.told(script.EVEN, even, even)]
    assert same["ratio"] == {"mean": 1.0, "low": 1.0, "high": 1.0} and "least" not in script.table([same], 2)


def test_a_goal_that_is_there_at_once_is_an_error(script) -> None:
    flat = [curve(0.5, 0.5, each=10)] * 2
    with pytest.raises(SystemExit, match="more --updates"):
        script.told(script.EVEN, flat, flat)


def test_from_end_to_end(script, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(script, "PLANNERS", {name: script.PLANNERS[name] for name in ("plain", "ar3po")})
    monkeypatch.setattr(script, "CURRICULA", {name: CURRICULA[name] for name in ("uniform", "spread")})
    file = tmp_path / "figures.json"
    words = ["--seeds", "2", "--updates", "14", "--processes", "1", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["curricula.py", *words])
    script.main()
    *table, line = capsys.readouterr().out.splitlines()
    told = json.loads(file.read_text())
    assert json.loads(line) == told and len(table) == 1 + len(told["arms"]) == 5
    assert told["arms"][0]["ratio"]["mean"] == 1 and told["arms"][0]["misses"] == 0
    assert (told["share"], told["seeds"], told["updates"], told["baseline"]) == (0.8, 2, 14, ["uniform", "plain"])
