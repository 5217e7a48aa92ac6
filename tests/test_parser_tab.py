"""One tab without a browser: links, forms, focus and history on a small site that is made here."""

from collections.abc import Callable
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from turngym.envs import ActionError
from turngym.envs.web import Do, Go, Page
from turngym.envs.web.engine import Receive, Scope, Send
from turngym.envs.web.network import Network
from turngym.envs.web.parser_tab import Tab

PAGE = """<title>{path}</title>visits {visits} {method} {query} {body}
<a href="/a">a</a><a href="/b">b</a><a href="{path}">self</a><a href="#part">part</a>
<form method=post action=/post><input type=hidden name=h value=1><input name=t aria-label=box>
<select name=s aria-label=sort><option value=u>up<option value=d>down</select>
<button name=b value=x>send</button></form>
<form action=/search><input name=q aria-label=query></form>
<a href="/moved">moved</a><a href="/late">late</a><a href="/file">file</a><a href="/fickle">fickle</a>
<a href="/nothing">nothing</a><form method=post action=/nothing><button>post nothing</button></form>"""
AWAY, BACK, FORWARD = "that leads away from the site and is blocked", Go(forward=False), Go(forward=True)
NO_BACK, NO_FORWARD = (f"there is no page to go {where} to" for where in ("back", "forward"))


class Small:
    """Pages that say how they were asked for, and answers that are no pages."""

    def __init__(self) -> None:
        self.visits = 0
        self.app = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def state(self) -> int:
        return self.visits

    def close(self) -> None:
        pass

    async def answer(self, request: Request) -> Response:
        self.visits += 1
        path = request.url.path
        to = {"/moved": "/b", "/post": "/a"}.get(path, "")
        if path == "/late" and self.visits > 3:
            to = "http://other.example/"
        body = (await request.body()).decode()
        if to and "t=stay" not in body:
            return RedirectResponse(to, 303)
        if path == "/nothing" or (path == "/fickle" and self.visits > 3):
            return Response(status_code=204)
        facts = {"path": path, "method": request.method, "query": request.url.query, "visits": str(self.visits)}
        html = PAGE.format(**{k: escape(v) for k, v in (facts | {"body": body}).items()})
        headers = {"content-disposition": "attachment; filename=page.html"} if path == "/file" else {}
        return HTMLResponse(html, headers=headers)


@pytest.fixture
def tab() -> Tab:
    return opened("/")


def opened(path: str) -> Tab:
    network = Network({"small": Small()}, "token")
    return Tab(network, network.address("small", path))


def press(tab: Tab, name: str, action: str = "Click", argument: str = "") -> Page:
    """``action`` on the element called ``name``."""
    element = next(e for e in tab.document.page.elements if e.text == name)
    tab.do(Do(action, argument, element.id), element)
    return tab.document.page


def go(tab: Tab, command: Go) -> Page:
    tab.go(command)
    return tab.document.page


def enter(tab: Tab) -> Page:
    tab.do(Do("Press Enter"), None)
    return tab.document.page


def text(page: Page) -> str:
    return " ".join(b for b in page.blocks if isinstance(b, str))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ActionError) as caught:
        call()
    return str(caught.value)


def test_links_make_history(tab: Tab) -> None:
    assert press(tab, "a").path == "/a" and press(tab, "b").path == "/b"
    assert [go(tab, c).path for c in (BACK, BACK, FORWARD)] == ["/a", "/", "/a"]
    assert press(tab, "moved").path == "/b"
    assert refused(lambda: go(tab, FORWARD)) == NO_FORWARD
    assert [go(tab, c).path for c in (BACK, BACK)] == ["/a", "/"]
    assert refused(lambda: go(tab, BACK)) == NO_BACK
    assert tab.document.page.path == "/"


def test_a_link_to_the_page_shown_makes_no_history(tab: Tab) -> None:
    press(tab, "a")
    assert text(press(tab, "self")).startswith("visits 3 ")
    assert go(tab, BACK).path == "/"


def test_a_link_into_the_page_asks_for_nothing(tab: Tab) -> None:
    press(tab, "box", "Type", "kept")
    page = press(tab, "part")
    assert text(page).startswith("visits 1 ") and page.path == "/"
    page = go(tab, BACK)
    assert text(page).startswith("visits 1 ") and "kept" in [e.value for e in page.elements]
    for command in (FORWARD, BACK):
        assert go(tab, command) == page
        with pytest.raises(ActionError):
            go(tab, command)


def test_a_link_to_the_part_shown_makes_no_history(tab: Tab) -> None:
    press(tab, "a")
    press(tab, "part")
    page = press(tab, "part")
    assert text(page).startswith("visits 2 ") and go(tab, BACK) == page
    assert go(tab, BACK).path == "/"


def test_a_form_posts_and_follows_the_redirect(tab: Tab) -> None:
    press(tab, "box", "Type", "red mug")
    press(tab, "sort", "Select Dropdown Option", "down")
    page = press(tab, "send")
    assert page.path == "/a" and text(page) == "visits 3 GET"
    assert go(tab, BACK).path == "/"


def test_a_form_sends_hidden_typed_and_chosen_values(tab: Tab) -> None:
    press(tab, "box", "Type", "stay")
    press(tab, "sort", "Select Dropdown Option", "down")
    page = press(tab, "send")
    assert page.path == "/post" and text(page).startswith("visits 2 POST h=1&t=stay&s=d&b=x")


def test_search_types_and_submits(tab: Tab) -> None:
    page = press(tab, "query", "Search", "a&b")
    assert page.path == "/search?q=a%26b" and "q=a%26b" in text(page)


def test_enter_submits_what_has_the_focus(tab: Tab) -> None:
    assert enter(tab).path == "/"
    press(tab, "query")
    assert enter(tab).path == "/search?q="
    press(tab, "query", "Type", "mug")
    assert enter(tab).path == "/search?q=mug"
    assert enter(tab).path == "/search?q=mug"


@pytest.mark.parametrize("action", ["Hover", "Right Click"])
def test_what_does_nothing(tab: Tab, action: str) -> None:
    assert text(press(tab, "a", action)).startswith("visits 1 ")


def test_a_step_back_that_leads_away_changes_nothing(tab: Tab) -> None:
    assert press(tab, "late").path == "/late"  # visit 2: a page; from visit 4 on it leads away
    press(tab, "a")
    assert refused(lambda: go(tab, BACK)) == AWAY
    assert refused(lambda: go(tab, FORWARD)) == NO_FORWARD
    assert tab.document.page.path == "/a"
    assert press(tab, "b").path == "/b" and go(tab, BACK).path == "/a"


@pytest.mark.parametrize("name", ["nothing", "post nothing"])
def test_an_answer_without_a_page_keeps_the_page_and_its_history(tab: Tab, name: str) -> None:
    press(tab, "a")
    press(tab, "b")
    go(tab, BACK)
    press(tab, "box", "Type", "kept")
    before = tab.document.page
    assert press(tab, name) == before and "kept" in [e.value for e in before.elements]
    assert text(go(tab, FORWARD)).startswith("visits 6 ")  # the site was asked, and the page after is still there
    assert [go(tab, BACK).path for _ in range(2)] == ["/a", "/"]


def test_a_step_back_to_no_page_keeps_the_page(tab: Tab) -> None:
    assert press(tab, "fickle").path == "/fickle"  # visit 2: a page; from visit 4 on there is none
    before = press(tab, "a")
    assert go(tab, BACK) == before
    assert refused(lambda: go(tab, FORWARD)) == NO_FORWARD
    assert press(tab, "b").path == "/b" and go(tab, BACK).path == "/a"


def test_a_download_is_refused_and_changes_nothing(tab: Tab) -> None:
    before = press(tab, "a")
    assert refused(lambda: press(tab, "file")) == "that is a download and is refused"
    assert tab.document.page == before
    assert refused(lambda: go(tab, FORWARD)) == NO_FORWARD
    assert go(tab, BACK).path == "/"


@pytest.mark.parametrize(
    ("target", "elsewhere"),
    [("", False), ("_self", False), ("_SELF", False), ("_top", False), ("_parent", False)]
    + [("_blank", True), ("_BLANK", True), ("other", True)],
)
def test_which_targets_are_another_window(target: str, elsewhere: bool) -> None:
    class Linked(Small):
        async def answer(self, request: Request) -> Response:
            return HTMLResponse(f'<a href="b?x=1" target="{target}">go</a><button>stay</button>')

    network = Network({"small": Linked()}, "token")
    tab = Tab(network, network.address("small", "/a/"))
    link, button = tab.document.page.elements
    assert tab.elsewhere(link) == ("http://small.token.localhost/a/b?x=1" if elsewhere else "")
    assert tab.elsewhere(button) == ""


def test_a_link_to_another_window_that_leads_away_is_refused() -> None:
    class Linked(Small):
        async def answer(self, request: Request) -> Response:
            return HTMLResponse('<a href="http://small.other.localhost/" target=_blank>go</a>')

    network = Network({"small": Linked()}, "token")
    tab = Tab(network, network.address("small", "/"))
    assert refused(lambda: tab.elsewhere(tab.document.page.elements[0])) == AWAY and network.refused == 1


STEPS = st.lists(st.sampled_from(["a", "b", "moved", "back", "forward"]), max_size=20)


@given(steps=STEPS)
def test_history_is_a_list_with_a_place_in_it(steps: list[str]) -> None:
    tab, history, at = opened("/"), ["/"], 0
    for step in steps:
        if step in ("back", "forward"):
            to = at + (1 if step == "forward" else -1)
            if 0 <= to < len(history):
                go(tab, Go(step == "forward"))
                at = to
            else:
                with pytest.raises(ActionError, match=NO_FORWARD if step == "forward" else NO_BACK):
                    go(tab, Go(step == "forward"))
        else:
            shown = history[at] == f"/{step}"  # which replaces its own entry
            press(tab, step)
            if not shown:
                history, at = [*history[: at + 1], "/b" if step == "moved" else f"/{step}"], at + 1
        assert tab.document.page.path == history[at]
