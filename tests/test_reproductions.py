"""The claims of WebAgent-R1: what is measured for each, and when each of them holds; the runs are stood in for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from turngym.agents.tiny import BASE
from turngym.envs import UsageError
from turngym.trainers import reproductions as module
from turngym.trainers.demo import Demo, plan
from turngym.trainers.evaluate import Evaluation
from turngym.trainers.parts import Parts
from turngym.trainers.report import Report, Score, limits, report
from turngym.trainers.reproduce import Claim, Reproduction, show
from turngym.trainers.reproduce_ar3po import ar3po
from turngym.trainers.reproductions import LIMITS, PAPERS, STEPS, VARIANTS, webagent_r1
from turngym.trainers.run import WARMUP
from turngym.trainers.settings import Run

# successes of 200 episodes, with the paper's shares; of the first and the last limit where limits are asked for
PAPER: dict[str, Any] = {
    "start, plain": 0,
    "start, thinking": 12,
    "webagent_r1, warm-up": 40,
    "webagent_r1, RL": 100,
    "webagent_r1_zero, warm-up": 0,
    "webagent_r1_zero, RL": 2,
    "webagent_r1_cot, warm-up": 70,
    "webagent_r1_cot, RL": 95,
    "start, limits": (0, 0),
    "warm-up, limits": (30, 40),
    "R1, limits": (34, 100),
}
CLAIMS = [
    "cloning improves on the start",
    "RL improves on cloning",
    "Zero: without cloning RL gains nothing",
    "Zero ends below cloning alone",
    "untrained, a thinking prompt beats a plain one",
    "CoT: thoughts help cloning",
    "CoT: RL improves on cloning",
    "CoT: RL gains less than without thoughts",
    "5 to 30 turns: R1 gains",
    "5 to 30 turns: R1 gains more than cloning",
    "5 to 30 turns: the start gains nothing",
    "compression: a context grows with actions, not pages",
]


def counted(wins: int) -> Report:
    return report([Score("t", 1, i < wins, 1, "terminated") for i in range(200)], environment="", seconds=1.0)


class Lab:
    """Stands in for the runs: says figures, and writes down what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.figures, self.asked, self.trained = dict(PAPER), dict[str, Evaluation](), dict[str, Run]()
        lab = self

        def measure(parts: Parts, name: str, evaluation: Evaluation) -> Report:
            lab.asked[name] = evaluation
            found = lab.figures[name]
            if isinstance(found, int):
                return counted(found)
            between = {n: counted(found[0]) for n in LIMITS[1:-1]}
            return limits({LIMITS[0]: counted(found[0])} | between | {LIMITS[-1]: counted(found[1])})

        def train(parts: Parts, name: str, run: Run) -> dict[str, Any]:
            lab.trained[name] = run
            return {"warmup_seconds": 1.0, "seconds": 1.0}

        monkeypatch.setattr(Parts, "report", measure)
        monkeypatch.setattr(Parts, "train", train)

    def claims(self, out: Path, **settings: Any) -> dict[str, Claim]:
        return {claim.claim: claim for claim in webagent_r1(Reproduction(out=str(out), **settings))}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


@pytest.fixture
def quick(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The figures alone, without the contexts."""
    monkeypatch.setattr(module, "_contexts", lambda: Claim(CLAIMS[-1], "", "", True))
    return lab


def test_with_the_papers_figures_every_claim_holds(lab: Lab, tmp_path: Path) -> None:
    claims = lab.claims(tmp_path)
    assert list(claims) == CLAIMS
    assert [name for name, claim in claims.items() if not claim.holds] == []
    assert [claims[name].ours for name in CLAIMS[:4]] == ["0.0 -> 20.0", "20.0 -> 50.0", "0.0 -> 1.0", "1.0 < 20.0"]
    assert [claims[name].ours for name in CLAIMS[4:6]] == ["0.0 < 6.0", "20.0 < 35.0"]
    assert claims["CoT: RL gains less than without thoughts"].ours == "+12.5 < +30.0"
    assert claims["5 to 30 turns: R1 gains more than cloning"].ours == "+5.0 < +33.0"
    assert show([*claims.values()]).count("holds") == len(CLAIMS)


FAILING: list[tuple[dict[str, Any], set[str]]] = [
    ({"webagent_r1, warm-up": 1}, {CLAIMS[0], CLAIMS[3]}),
    ({"webagent_r1, RL": 44}, {CLAIMS[1], CLAIMS[7]}),
    ({"webagent_r1, RL": 10}, {CLAIMS[1], CLAIMS[7]}),
    ({"webagent_r1_zero, RL": 20}, {CLAIMS[2]}),
    ({"webagent_r1_zero, RL": 60}, {CLAIMS[2], CLAIMS[3]}),
    ({"start, plain": 12}, {CLAIMS[4]}),
    ({"start, plain": 30, "start, thinking": 12}, {CLAIMS[0], CLAIMS[4]}),
    ({"webagent_r1_cot, warm-up": 45}, {CLAIMS[5], CLAIMS[7]}),
    ({"webagent_r1_cot, RL": 72}, {CLAIMS[6]}),
    ({"webagent_r1_cot, RL": 140}, {CLAIMS[7]}),
    ({"R1, limits": (90, 95)}, {CLAIMS[8], CLAIMS[9]}),
    ({"warm-up, limits": (10, 80)}, {CLAIMS[9]}),
    ({"start, limits": (0, 20)}, {CLAIMS[10]}),
]


@pytest.mark.parametrize(("figures", "failing"), FAILING, ids=lambda case: ",".join(sorted(case)))
def test_other_figures_fail_the_claims_that_they_are_about(
    quick: Lab, tmp_path: Path, figures: dict[str, Any], failing: set[str]
) -> None:
    quick.figures |= figures
    assert {name for name, claim in quick.claims(tmp_path).items() if not claim.holds} == failing


def test_every_claim_but_the_contexts_can_fail() -> None:
    assert {name for _, names in FAILING for name in names} == {*CLAIMS[:-1]}


def test_what_is_trained_and_what_is_measured(quick: Lab, tmp_path: Path) -> None:
    quick.claims(tmp_path, seed=4)
    for name, make in VARIANTS.items():
        as_demo = replace(make(), seed=4, levels=(1, 2, 3), steps=STEPS, out=str(tmp_path / name))
        assert quick.trained[f"{name}, train"] == as_demo and as_demo.levels == plan(Demo()).levels
    assert len(quick.trained) == len(VARIANTS)
    assert set(quick.asked) == set(PAPER)
    for name, asked in quick.asked.items():
        assert (asked.engine, asked.episodes, asked.seed, asked.split, asked.levels) == ("parser", 200, 4, "test", ())
        assert asked.template == asked.memory == ""
        assert asked.max_turns == (LIMITS if name.endswith("limits") else ())
        assert asked.prompt == ({"start, plain": "plain", "start, thinking": "thinking"}.get(name, ""))
        who = name.split(", ")[0]
        folder = {"start": BASE, "warm-up": tmp_path / "webagent_r1" / WARMUP, "R1": tmp_path / "webagent_r1"}
        place = folder.get(who, tmp_path / who / WARMUP if name.endswith("warm-up") else tmp_path / who)
        assert Path(asked.agent) == place


def test_a_folder_of_another_seed_is_refused(quick: Lab, tmp_path: Path) -> None:
    quick.claims(tmp_path)
    quick.claims(tmp_path)
    with pytest.raises(UsageError, match="other settings"):
        quick.claims(tmp_path, seed=1)


def test_the_usual_place(quick: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    webagent_r1(Reproduction())
    assert (tmp_path / "runs/reproduce/webagent_r1/parts/settings.json").is_file()
    assert quick.trained["webagent_r1, train"].out == "runs/reproduce/webagent_r1/webagent_r1"


def test_contexts_are_measured_on_gold_episodes() -> None:
    claim = module._contexts()
    short, long = (int(n) for n in claim.ours.removesuffix(" tokens").split(" against "))
    assert 0 < short < long / 2 and claim.holds


def test_contexts_that_do_not_shrink_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = module.MEMORIES["full"]
    monkeypatch.setattr(module, "MEMORIES", {"full": memory, "compressed": memory})
    claim = module._contexts()
    assert not claim.holds and len({*claim.ours.removesuffix(" tokens").split(" against ")}) == 1


def test_the_papers_are_functions_of_the_settings() -> None:
    assert PAPERS == {"webagent_r1": webagent_r1, "ar3po": ar3po}
