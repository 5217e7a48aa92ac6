"""Options from dataclasses: every type of field, strictness, and errors of one line."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from turngym.envs import UsageError
from turngym.trainers.options import Parser, add, apply, build, show, unknown, words


@dataclass(frozen=True)
class Inner:
    depth: int = 2


@dataclass(frozen=True)
class Settings:
    steps: int = field(default=10, metadata={"help": "updates; 100 % of them"})
    learning_rate: float = field(default=1e-3, metadata={"help": "of AdamW"})
    name: str = ""
    shuffle: bool = True
    max_turns: tuple[int, ...] = (5, 15)
    names: tuple[str, ...] = ()
    engine: Literal["parser", "browser"] = "parser"
    limit: float | None = None
    pair: tuple[int, int] = (1, 2)
    inner: Inner = Inner()
    made: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Required:
    env: str = field(metadata={"help": "the world's id"})
    episodes: int = 3


def parser(of: object = Settings) -> Parser:
    made = Parser("turngym test", "A test.")
    add(made, of)
    return made


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("", {}),
        ("--steps 3 --learning-rate 1e-5 --name a", {"steps": 3, "learning_rate": 1e-5, "name": "a"}),
        ("--steps=-3 --learning-rate -0.5", {"steps": -3, "learning_rate": -0.5}),
        ("--no-shuffle", {"shuffle": False}),
        ("--shuffle", {"shuffle": True}),
        ("--max-turns 5,10,15", {"max_turns": (5, 10, 15)}),
        ("--max-turns 7 --names a,b", {"max_turns": (7,), "names": ("a", "b")}),
        ("--engine browser", {"engine": "browser"}),
        ("--limit 2.5", {"limit": 2.5}),
        ("--limit none", {"limit": None}),
    ],
)
def test_what_is_given_changes_and_nothing_else(words: str, changes: dict[str, Any]) -> None:
    base = Settings(name="base", limit=1.0, inner=Inner(7))
    assert apply(base, parser(base).parse(words.split())) == replace(base, **changes)
    assert build(Settings, parser().parse(words.split())) == Settings(**changes)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--stesp 3", "unknown option --stesp; did you mean --steps?"),
        ("--learning_rate=3", "unknown option --learning_rate; did you mean --learning-rate?"),
        ("--step 3", "unknown option --step; did you mean --steps?"),
        ("--zzz", "unknown option --zzz; see turngym test --help"),
        ("--inner 3", "unknown option --inner; see turngym test --help"),
        ("--pair 1,2", "unknown option --pair; see turngym test --help"),
        ("extra", "unexpected argument 'extra' (see turngym test --help)"),
        ("--steps", "argument --steps: expected one argument (see turngym test --help)"),
        ("--steps 3.5", "argument --steps: '3.5' is no whole number (see turngym test --help)"),
        ("--learning-rate x", "argument --learning-rate: 'x' is no number (see turngym test --help)"),
        ("--learning-rate nan", "argument --learning-rate: 'nan' is no finite number (see turngym test --help)"),
        ("--max-turns 5,x", "argument --max-turns: 'x' is no whole number (see turngym test --help)"),
        (
            "--engine brwser",
            "argument --engine: unknown value brwser; did you mean browser? (see turngym test --help)",
        ),
    ],
)
def test_what_is_wrong_is_one_line(words: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parser().parse(words.split())
    assert str(caught.value) == line


def test_a_field_without_a_default_is_required() -> None:
    with pytest.raises(UsageError, match="required: --env"):
        parser(Required).parse([])
    assert build(Required, parser(Required).parse(["--env", "a"])) == Required("a", 3)
    assert apply(Required("b"), parser(Required("b")).parse(["--episodes", "4"])) == Required("b", 4)


def test_help_shows_the_text_and_the_default_of_what_was_given() -> None:
    text = " ".join(parser(Settings(steps=77)).format_help().split())
    assert "--steps N updates; 100 % of them (default: 77)" in text
    assert "--max-turns N,... (default: 5,15)" in text
    assert "--engine parser|browser (default: parser)" in text
    assert "--shuffle, --no-shuffle (default: true)" in text
    assert "--limit X (default: none)" in text
    assert "--inner" not in text and "--made" not in text


def test_show_prints_every_field_and_the_nested_ones() -> None:
    lines = show(Settings()).splitlines()
    assert lines[0] == "steps         = 10"
    assert "shuffle       = true" in lines and "name          = ''" in lines
    assert lines[lines.index("inner         = Inner") + 1] == "    depth = 2"


def test_show_prints_each_dataclass_of_a_tuple_and_functions_by_name() -> None:
    @dataclass(frozen=True)
    class Recipe:
        parts: tuple[Inner, ...] = (Inner(1), Inner(3))
        reduction: object = unknown
        none: tuple[Inner, ...] = ()

    lines = show(Recipe()).splitlines()
    assert lines[:4] == ["parts     = Inner", "    depth = 1", "parts     = Inner", "    depth = 3"]
    assert lines[4:] == ["reduction = unknown", "none      = ()"]


@pytest.mark.parametrize(
    "wanted",
    [
        Settings(),
        Settings(steps=-3, learning_rate=1e-05, name="two words", shuffle=False, max_turns=(7,)),
        Settings(limit=0.5, names=("a", "b"), max_turns=(), engine="browser"),
    ],
)
def test_words_are_read_back(wanted: Settings) -> None:
    base = Settings(limit=2.0)
    assert apply(base, parser(base).parse(words(base, wanted))) == wanted
    assert words(wanted, wanted) == []


def test_what_is_no_dataclass_is_an_error_of_the_programmer() -> None:
    with pytest.raises(TypeError, match="no dataclass"):
        add(Parser("turngym test", ""), 3)


def test_an_unknown_name_far_from_all_lists_them() -> None:
    assert unknown("recipe", "zzz", ["a", "b"]) == "unknown recipe zzz; known: a, b"
