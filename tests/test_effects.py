"""What is possible on a page, and how an impossible action is answered."""

import pytest

from turngym.envs.errors import ActionError
from turngym.envs.web.effects import check, kept, no_page, room
from turngym.envs.web.engine import TABS
from turngym.envs.web.grammar import Do, Go
from turngym.envs.web.page import Element, Page

LINK, BOX = Element(1, "link", "home"), Element(2, "textbox", "search")
SELECT = Element(3, "select", "sort", "price", ("price", "name"))
PAGE = Page("Shop", "/", ("hello", LINK, BOX, SELECT))


@pytest.mark.parametrize(
    ("command", "element"),
    [
        (Do("Click", element=1), LINK),
        (Do("Hover", element=3), SELECT),
        (Do("Type", "mug", 2), BOX),
        (Do("Search", "", 2), BOX),
        (Do("Select Dropdown Option", "name", 3), SELECT),
        (Do("Press Enter"), None),
        (Do("Wait"), None),
        (Do("Switch Tab", "0"), None),
        (Go(forward=False), None),
    ],
)
def test_possible(command: Do | Go, element: Element | None) -> None:
    assert check(command, PAGE) is element


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (Do("Click", element=4), "there is no element [4] on this page"),
        (Do("Wait me", element=0), "there is no element [0] on this page"),
        (Do("Type", "mug", 1), "Type wants a text box; home [1] is a link"),
        (Do("Search", "mug", 3), "Search wants a text box; sort [3] is a select"),
        (
            Do("Select Dropdown Option", "price", 2),
            "Select Dropdown Option wants a select; search [2] is a textbox",
        ),
        (Do("Select Dropdown Option", "size", 3), "sort [3] has no option size"),
        (Do("Switch Tab", "1"), "there is no tab 1"),
    ],
)
def test_impossible(command: Do, message: str) -> None:
    with pytest.raises(ActionError) as caught:
        check(command, PAGE)
    assert str(caught.value) == message


def test_another_tab() -> None:
    page = Page("Shop", "/", (LINK,), "shop", ("forum", "Shop", "cart"), 1)
    assert all(check(Do("Switch Tab", str(i)), page) is None for i in range(3))
    with pytest.raises(ActionError, match="^there is no tab 3$"):
        check(Do("Switch Tab", "3"), page)


def test_room_for_tabs() -> None:
    assert all(room(count) is None for count in range(TABS))  # type: ignore[func-returns-value]
    for count in (TABS, TABS + 1):
        with pytest.raises(ActionError, match="^there is no room for another tab: 8 are open$"):
            room(count)


def test_the_ends_of_the_history() -> None:
    assert str(no_page(Go(forward=False))) == "there is no page to go back to"
    assert str(no_page(Go(forward=True))) == "there is no page to go forward to"


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        ("text", " a\nb\r\n ", " ab "),
        ("textarea", "a\r\nb\rc", "a\nb\nc"),
        ("number", "-1.5e3", "-1.5e3"),
        ("number", ".5", ".5"),
        ("number", "+1", ""),
        ("number", "1.", ""),
        ("number", "two", ""),
    ],
)
def test_what_a_control_keeps(type: str, text: str, value: str) -> None:
    assert kept(type, text) == value
