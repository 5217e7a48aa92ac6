"""A page in words: what stays when it is too long, and what is said about the rest."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web import Element, Page, render
from turngym.envs.web.page import LONGEST, Block

LINK, BOX, FULL = Element(1, "link", "home"), Element(2, "textbox", "search"), Element(3, "textbox", "name", "Ada")
SELECT = Element(4, "select", "sort", "price", ("price", "name"))
PAGE = Page("Shop", "/list?page=2", ("hello", LINK, BOX, "and", FULL, SELECT))


def test_a_page_in_words() -> None:
    assert render(PAGE) == (
        "Shop at /list\nhello home [1] search [2] and name [3] holds Ada sort [4] is price of price name"
    )


def test_elements_by_number() -> None:
    assert PAGE.elements == (LINK, BOX, FULL, SELECT)
    assert [PAGE.element(i) for i in range(6)] == [None, LINK, BOX, FULL, SELECT, None]
    assert PAGE.element(-1) is None and LINK.name == "home [1]"


def test_an_error_has_its_line() -> None:
    assert render(PAGE, error="there is no tab 3").split("\n")[1] == "error: there is no tab 3"
    assert "error" not in render(PAGE)


def test_tabs_are_listed_when_there_are_several() -> None:
    two = Page("cart", "/", (LINK,), "shop", ("forum", "cart"), 1)
    assert render(two, error="no") == "cart at /\ntabs: 0 forum, 1 cart here\nerror: no\nhome [1]"
    assert render(replace(two, tab=0)).split("\n")[1] == "tabs: 0 forum here, 1 cart"
    assert "tabs" not in render(replace(two, tabs=("cart",), tab=0))


def test_the_site_is_not_said() -> None:
    assert render(replace(PAGE, site="forum")) == render(PAGE)


def test_text_goes_before_elements_and_the_end_before_the_start() -> None:
    page = Page("T", "/", ("first", LINK, "second", BOX, "third", SELECT))
    whole = len(render(page))
    assert "dropped" not in render(page, budget=whole)
    assert render(page, budget=whole - 1).endswith("parts dropped")
    shown = [render(page, budget=b) for b in range(whole, 0, -1)]
    least = len("T at /\n\n6 parts dropped")
    assert all(len(s) <= max(b, least) for s, b in zip(shown, range(whole, 0, -1), strict=True))
    kept = [tuple(str(b) in s.split("\n", 1)[1] for b in page.blocks) for s in shown]
    order = [4, 2, 0, 5, 3, 1]  # text from the end, then elements from the end
    states = [tuple(i not in order[:n] for i in range(6)) for n in range(7)]
    assert [states.index(k) for k in kept] == sorted(states.index(k) for k in kept)
    assert kept[-1] == states[6] and shown[-1] == "T at /\n\n6 parts dropped"


WORD = st.text("abc ", min_size=1, max_size=30)
KINDS = st.sampled_from(["link", "button", "textbox"])


@st.composite
def pages(draw: st.DrawFn) -> Page:
    blocks, count = list[Block](), 0
    for text, kind in draw(st.lists(st.tuples(WORD, st.none() | KINDS), max_size=30)):
        count += kind is not None
        blocks.append(text if kind is None else Element(count, kind, text, "x" if kind == "textbox" else ""))
    return Page(draw(WORD), "/" + draw(WORD), tuple(blocks), "site", tuple(draw(st.lists(WORD, max_size=3))))


@given(page=pages(), error=WORD | st.just(""), budget=st.integers(0, 600))
def test_the_budget_is_kept_and_what_is_dropped_is_counted(page: Page, error: str, budget: int) -> None:
    text = render(page, error=error, budget=budget)
    head = render(replace(page, blocks=()), error=error)
    tail = re.search(r"\n(\d+) parts dropped$", text)
    assert text.startswith(head)
    assert len(text) <= max(budget, len(head) + len(tail[0] if tail else ""))
    shown = text[len(head) : tail.start() if tail else None]
    numbers = [int(n) for n in re.findall(r"\[(\d+)\]", shown)]
    assert numbers == list(range(1, len(numbers) + 1))  # elements go from the end
    texts = [b for b in page.blocks if isinstance(b, str)]
    gone = int(tail[1]) if tail else 0
    kept = len(texts) - gone if len(numbers) == len(page.elements) else 0  # no element goes while there is text
    assert gone == len(page.blocks) - kept - len(numbers)
    assert shown == " ".join(str(b) for b in kept_blocks(page, kept, len(numbers)))


def kept_blocks(page: Page, texts: int, elements: int) -> list[Block]:
    """The first ``texts`` texts and the first ``elements`` elements, in the page's order."""
    kept = list[Block]()
    for block in page.blocks:
        if isinstance(block, str):
            texts -= 1
            kept += [block] if texts >= 0 else []
        else:
            elements -= 1
            kept += [block] if elements >= 0 else []
    return kept


@pytest.mark.parametrize("part", ["title", "path", "tabs", "error"])
def test_a_hostile_head_leaves_room_for_the_page(part: str) -> None:
    long = "x" * 10_000
    tabs = (long, long) if part == "tabs" else ()
    page = Page(long if part == "title" else "T", "/" + (long if part == "path" else ""), (LINK,), "", tabs)
    text = render(page, error=long if part == "error" else "")
    assert len(text) < LONGEST + 50 and text.endswith("\nhome [1]") and "x…" in text
