"""The claims of AR3PO: when each of them holds, on made-up curves, and the command from end to end on short runs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from turngym.envs import UsageError
from turngym.trainers import reproduce_ar3po as module
from turngym.trainers.bank.trial import GRADED, Curve, trial
from turngym.trainers.cli import main
from turngym.trainers.reproduce import Reproduction
from turngym.trainers.reproduce_ar3po import ARMS, DAPO, GRPO, LONG, ONE, ar3po, claims, table

NAMES = [
    "AR3PO's success is not below DAPO's in as many updates",
    "with half of DAPO's generated responses or less",
    "nor when it goes on to half of DAPO's responses",
    "AR3PO above GRPO at equal generated responses",
    "mode II is not below mode I",
]


def curves(end: float, responses: int, spread: float = 0.001, middle: float | None = None) -> list[Curve]:
    """Three seeds of ten updates, linear from 0.4, or through ``middle`` half way."""
    half = (0.4 + end) / 2 if middle is None else middle
    found = []
    for seed in range(3):
        shift = spread * (seed - 1)
        success = tuple(0.4 + (half - 0.4) * i / 5 for i in range(6))
        success += tuple(half + (end + shift - half) * i / 5 for i in range(1, 6))
        spent = tuple(responses * i // 10 for i in range(11))
        found.append(Curve(success, success, responses=spent, tokens=tuple(3 * n for n in spent), dropped=seed))
    return found


def found(**changes: Sequence[Curve]) -> dict[str, Sequence[Curve]]:
    """Where every claim holds."""
    made: dict[str, Sequence[Curve]] = {name: curves(0.8, 1000) for name in ARMS}
    made |= {DAPO: curves(0.8, 4000), GRPO: curves(0.8, 2000), ONE: curves(0.78, 1000), LONG: curves(0.8, 2000)}
    return made | changes


def failing(arms: dict[str, Sequence[Curve]]) -> set[int]:
    told = claims(arms)
    assert [c.claim for c in told] == NAMES
    return {i for i, c in enumerate(told) if not c.holds}


def test_with_curves_as_in_the_paper_every_claim_holds() -> None:
    assert failing(found()) == set()
    told = claims(found())
    assert told[0].ours.startswith("0.800 against 0.800: +0.000 (")
    assert told[1].ours == "4.00 (4.00 to 4.00) times"
    assert told[2].ours.startswith("0.800 against 0.800: +0.000 (")
    assert told[3].ours.startswith("0.800 against 0.600: +0.200 (")


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({DAPO: curves(0.9, 4000)}, {0, 2}),
        ({DAPO: curves(0.82, 4000)}, set()),  # a little below is not below
        ({DAPO: curves(0.8, 4000, spread=0.2)}, {0, 2}),  # nor is what cannot be told
        ({DAPO: curves(0.8, 1900)}, {1, 2}),
        ({LONG: curves(0.8, 2400)}, {2}),
        ({LONG: curves(0.8, 1500)}, set()),
        ({GRPO: curves(0.8, 2000, middle=0.7995)}, {3}),  # cannot be told
        ({GRPO: curves(0.8, 2000, middle=0.85)}, {3}),
        ({ONE: curves(0.85, 1000)}, {4}),
    ],
)
def test_other_curves_fail_the_claims_that_they_are_about(changes, fails) -> None:
    assert failing(found(**changes)) == fails


def test_the_table_has_a_line_for_each_arm() -> None:
    head, *lines = table(found()).split("\n")
    assert [line[: len(name)] for line, name in zip(lines, ARMS, strict=True)] == [*ARMS]
    assert head.endswith("DAPO's responses by these") and "4.00 (4.00 to 4.00) times" in lines[2]
    assert "times" not in lines[1] and lines[1].split()[-3:] == ["4,000", "12,000", "1"]


def test_arms_differ_by_what_they_are_about_alone() -> None:
    assert len(set(ARMS.values())) == len(ARMS)
    for arm in ARMS.values():
        assert (arm.world, arm.curriculum, arm.groups, arm.size) == ("graded", "uniform", 16, 8)
        assert arm.updates == (320 if arm is ARMS[LONG] else 80)
        assert dict(arm.options)["decay"] == 0 and arm.make().update.decay == 0
        assert arm.updates * arm.groups / len(GRADED.odds) >= 10, "each prompt comes so many times"
        arm.check(arm.make())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {name: replace(arm, updates=4 if name == LONG else 2, groups=4) for name, arm in ARMS.items()}
    monkeypatch.setattr(module, "ARMS", short)
    monkeypatch.setattr(module, "SEEDS", 2)


def test_the_command_writes_what_it_found_and_goes_on_where_it_was(tiny, tmp_path, monkeypatch, capsys) -> None:
    words = ["reproduce", "ar3po", "--seed", "3", "--out", str(tmp_path / "runs"), "--json", str(tmp_path / "c.json")]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "ar3po 14/14" in said.err and "stages alone" in said.out
    told = json.loads((tmp_path / "c.json").read_text())
    assert [c["claim"] for c in told] == NAMES and {c["verdict"] for c in told} <= {"holds", "fails"}
    assert all(set(c) == {"claim", "paper", "ours", "verdict"} for c in told)
    part = json.loads((tmp_path / "runs" / "parts" / "GRPO, seed 4.json").read_text())["value"]
    assert tuple(part["success"]) == trial(module.ARMS[GRPO], 4).success

    def nothing(*_: object) -> None:
        raise AssertionError("all of it is there")

    monkeypatch.setattr(module, "trial", nothing)
    assert main(words) == 0 and json.loads((tmp_path / "c.json").read_text()) == told


def test_a_folder_of_another_seed_is_refused(tiny, tmp_path: Path) -> None:
    ar3po(Reproduction(out=str(tmp_path)))
    with pytest.raises(UsageError, match="other settings"):
        ar3po(Reproduction(out=str(tmp_path), seed=1))


def test_the_docs_show_the_figures_of_the_last_run() -> None:
    root = Path(__file__).resolve().parents[1]
    told = json.loads((root / "benchmarks" / "results" / "ar3po.json").read_text())
    assert [c["claim"] for c in told] == NAMES, "turngym reproduce ar3po --json benchmarks/results/ar3po.json"
    shown = (root / "docs" / "recipes.md").read_text()
    for c in told:
        assert f"| {c['claim']} | {c['paper']} | {c['ours']} | {c['verdict']} |" in shown
