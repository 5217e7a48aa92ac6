"""How ends are judged, and how gold steps are spelled on a page."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web import (
    Element,
    Evaluator,
    Final,
    Page,
    Place,
    StateMatch,
    Step,
    StringMatch,
    Task,
    UrlMatch,
    parse,
)
from turngym.envs.web.task import because, click

ELEMENTS = (Element(1, "link", "home"), Element(2, "textbox", "box"), Element(3, "link", "home"))
PAGE = Page("cart", "/cart?a=1", ELEMENTS, "shop", ("forum", "cart"), 1)
TEXT = st.text("abcXYZ \\\"'<>/[]=\n😀", max_size=20)


def final(message: str | None = None, page: Page = PAGE, **states: Any) -> Final:
    return Final(page, states, message)


@pytest.mark.parametrize(
    ("message", "right"),
    [("red Mug", True), ("  RED\n mug ", True), ("redmug", False), ("red mug!", False), ("", False), (None, False)],
)
def test_a_string_matches_but_for_case_and_spaces(message: str | None, right: bool) -> None:
    assert StringMatch("red mug")(final(message)) is right


def test_no_message_is_not_an_empty_one() -> None:
    assert StringMatch("")(final("")) and StringMatch("")(final(" ")) and not StringMatch("")(final(None))


@pytest.mark.parametrize(
    ("site", "path", "right"),
    [
        ("shop", "/cart", True),
        ("forum", "/cart", False),  # the same path of another site
        ("", "/cart", False),
        ("shop", "/cart?a=1", False),  # a query is not part of it
        ("shop", "/", False),
        ("shop", "/cart/", False),
    ],
)
def test_an_url_matches_by_site_and_path(site: str, path: str, right: bool) -> None:
    assert UrlMatch(site, path)(final()) is right


STATES = st.fixed_dictionaries({name: st.integers(0, 2) for name in ("shop", "forum")})


@given(states=STATES, site=st.sampled_from(["shop", "forum"]), state=st.integers(0, 2))
def test_a_state_matches_on_its_own_site(states: dict[str, int], site: str, state: int) -> None:
    assert StateMatch(site, state)(final(**states)) is (states[site] == state)


def test_a_state_of_no_site_is_a_mistake_of_the_task() -> None:
    with pytest.raises(KeyError):
        StateMatch("bank", 0)(final(shop=0))


@given(states=STATES, message=st.sampled_from(["47", "done", None]))
def test_a_task_succeeds_when_all_say_yes(states: dict[str, int], message: str | None) -> None:
    judges: tuple[Evaluator, ...] = (StringMatch("47"), StateMatch("shop", 1), StateMatch("forum", 2))
    task = Task("t", 1, "goal", (Place("shop"),), judges, ())
    assert task.success(final(message, **states)) is (message == "47" and states == {"shop": 1, "forum": 2})


@pytest.mark.parametrize(
    ("step", "spelled"),
    [
        (Step("Click", "home"), 'do(action="Click", element="home [1]")'),  # the first of that name
        (Step("Type", "box", ""), 'do(action="Type", argument="", element="box [2]")'),
        (Step("Search", "box", 'a "b"'), 'do(action="Search", argument="a \\"b\\"", element="box [2]")'),
        (Step("Press Enter"), 'do(action="Press Enter")'),
        (Step("Switch Tab", argument="1"), 'do(action="Switch Tab", argument="1")'),
        (Step("exit", argument="47"), 'exit(message="47")'),
        (Step("exit"), 'exit(message="")'),
    ],
)
def test_steps_in_the_grammar_plain_and_thinking(step: Step, spelled: str) -> None:
    assert step.spell(PAGE) == spelled
    (thought,) = because("need a mug", step)
    assert thought.spell(PAGE) == spelled
    assert thought.spell(PAGE, thinking=True) == f"<think>need a mug</think><answer>{spelled}</answer>"
    assert parse(thought.spell(PAGE, thinking=True)) == parse(spelled)


@given(thought=st.text("abc ", max_size=20), argument=TEXT.filter(lambda text: "</answer>" not in text))
def test_a_thought_changes_no_command(thought: str, argument: str) -> None:
    for step in (Step("Type", "box", argument), Step("exit", argument=argument)):
        (thinking,) = because(thought, step)
        assert parse(thinking.spell(PAGE, thinking=True)) == parse(step.spell(PAGE))


def test_a_missing_element_is_said() -> None:
    with pytest.raises(LookupError, match="no 'mug' on cart at /cart"):
        Step("Click", "mug").spell(PAGE)


def test_ways_are_built_of_clicks() -> None:
    assert click("a", "b") == (Step("Click", "a"), Step("Click", "b"))
    assert because("why", *click("a"), Step("exit", argument="1")) == (
        Step("Click", "a", thought="why"),
        Step("exit", argument="1", thought="why"),
    )
