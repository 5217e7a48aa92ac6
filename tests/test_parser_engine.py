"""The engine without a browser: links, forms, history and origin on a small site that is made here."""

from collections.abc import Callable, Iterator
from html import escape

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from turngym.envs import ActionError, EnvError, UsageError
from turngym.envs.web import Do, Go, Page
from turngym.envs.web.engine import Receive, Scope, Send
from turngym.envs.web.parser_engine import ParserEngine

PAGE = """<title>{path}</title>visits {visits} {method} {query} {body}
<a href="/a">a</a><a href="/b">b</a><a href="{path}">self</a><a href="#part">part</a>
<form method=post action=/post><input type=hidden name=h value=1><input name=t aria-label=box>
<select name=s aria-label=sort><option value=u>up<option value=d>down</select>
<button name=b value=x>send</button></form>
<form action=/search><input name=q aria-label=query></form>
<a href="http://other.example/">outside</a><a href="https://{host}/">secure</a><a href="mailto:a@b">mail</a>
<a href="/leave">leave</a><a href="/loop">loop</a><a href="/moved">moved</a><a href="/bug">bug</a>
<a href="/late">late</a>
<form method=post action=http://other.example/><button>post outside</button></form>"""


class Small:
    """Pages that say how they were asked for, and redirects of every kind."""

    def __init__(self) -> None:
        self.visits, self.closed = 0, 0
        self.app = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def close(self) -> None:
        self.closed += 1

    async def answer(self, request: Request) -> Response:
        self.visits += 1
        path = request.url.path
        if path == "/bug":
            raise ValueError("no page")
        away = path == "/leave" or (path == "/late" and self.visits > 3)
        to = {"/loop": "/loop", "/moved": "/b", "/post": "/a"}.get(path, "http://other.example/" if away else "")
        body = (await request.body()).decode()
        if to and "t=stay" not in body:
            return RedirectResponse(to, 303)
        facts = {"path": path, "method": request.method, "query": request.url.query, "visits": str(self.visits)}
        facts |= {"body": body, "host": request.headers["host"]}
        return HTMLResponse(PAGE.format(**{k: escape(v) for k, v in facts.items()}))


@pytest.fixture
def engine() -> Iterator[ParserEngine]:
    engine = ParserEngine()
    engine.open(Small, "/")
    yield engine
    engine.close()


def press(engine: ParserEngine, name: str, action: str = "Click", argument: str = "") -> Page:
    """``action`` on the element called ``name``."""
    page = engine.act(Do("Wait"))
    return engine.act(Do(action, argument, next(e.id for e in page.elements if e.text == name)))


def text(page: Page) -> str:
    return " ".join(b for b in page.blocks if isinstance(b, str))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ActionError) as caught:
        call()
    return str(caught.value)


def test_open_shows_the_page(engine: ParserEngine) -> None:
    page = engine.open(Small, "/b?x=1")
    assert (page.title, page.path, text(page)) == ("/b", "/b?x=1", "visits 1 GET x=1")


def test_links_make_history(engine: ParserEngine) -> None:
    assert press(engine, "a").path == "/a" and press(engine, "b").path == "/b"
    back, forward = Go(forward=False), Go(forward=True)
    assert [engine.act(c).path for c in (back, back, forward)] == ["/a", "/", "/a"]
    assert press(engine, "moved").path == "/b"
    assert refused(lambda: engine.act(forward)) == "there is no page to go forward to"
    assert [engine.act(c).path for c in (back, back)] == ["/a", "/"]
    assert refused(lambda: engine.act(back)) == "there is no page to go back to"
    assert engine.act(Do("Wait")).path == "/"


def test_a_link_to_the_page_shown_makes_no_history(engine: ParserEngine) -> None:
    press(engine, "a")
    assert text(press(engine, "self")).startswith("visits 3 ")
    assert engine.act(Go(forward=False)).path == "/"


def test_a_link_into_the_page_asks_for_nothing(engine: ParserEngine) -> None:
    press(engine, "box", "Type", "kept")
    page = press(engine, "part")
    assert text(page).startswith("visits 1 ") and page.path == "/"
    page = engine.act(Go(forward=False))
    assert text(page).startswith("visits 1 ") and "kept" in [e.value for e in page.elements]
    for forward in (True, False):
        assert engine.act(Go(forward=forward)) == page
        with pytest.raises(ActionError):
            engine.act(Go(forward=forward))


def test_a_link_to_the_part_shown_makes_no_history(engine: ParserEngine) -> None:
    press(engine, "a")
    press(engine, "part")
    page = press(engine, "part")
    assert text(page).startswith("visits 2 ") and engine.act(Go(forward=False)) == page
    assert engine.act(Go(forward=False)).path == "/"


def test_a_form_posts_and_follows_the_redirect(engine: ParserEngine) -> None:
    press(engine, "box", "Type", "red mug")
    press(engine, "sort", "Select Dropdown Option", "down")
    page = press(engine, "send")
    assert (page.path, engine.query(lambda site: site.visits)) == ("/a", 3)
    assert engine.act(Go(forward=False)).path == "/"


def test_a_form_sends_hidden_typed_and_chosen_values(engine: ParserEngine) -> None:
    press(engine, "box", "Type", "stay")
    press(engine, "sort", "Select Dropdown Option", "down")
    page = press(engine, "send")
    assert page.path == "/post" and text(page).startswith("visits 2 POST h=1&t=stay&s=d&b=x")


def test_search_types_and_submits(engine: ParserEngine) -> None:
    page = press(engine, "query", "Search", "a&b")
    assert page.path == "/search?q=a%26b" and "q=a%26b" in text(page)


def test_enter_submits_what_has_the_focus(engine: ParserEngine) -> None:
    assert engine.act(Do("Press Enter")).path == "/"
    press(engine, "query")
    assert engine.act(Do("Press Enter")).path == "/search?q="
    press(engine, "query", "Type", "mug")
    assert engine.act(Do("Press Enter")).path == "/search?q=mug"
    assert engine.act(Do("Press Enter")).path == "/search?q=mug"


@pytest.mark.parametrize("action", ["Hover", "Right Click"])
def test_what_does_nothing(engine: ParserEngine, action: str) -> None:
    assert text(press(engine, "a", action)).startswith("visits 1 ")


@pytest.mark.parametrize("name", ["outside", "secure", "mail", "leave", "post outside"])
def test_other_origins_are_blocked(engine: ParserEngine, name: str) -> None:
    before = engine.act(Do("Wait"))
    assert refused(lambda: press(engine, name)) == "that leads away from the site and is blocked"
    assert engine.act(Do("Wait")) == before
    assert refused(lambda: engine.act(Go(forward=False))) == "there is no page to go back to"


def test_a_step_back_that_leads_away_changes_nothing(engine: ParserEngine) -> None:
    assert press(engine, "late").path == "/late"  # visit 2: a page; from visit 4 on it leads away
    press(engine, "a")
    assert refused(lambda: engine.act(Go(forward=False))) == "that leads away from the site and is blocked"
    assert refused(lambda: engine.act(Go(forward=True))) == "there is no page to go forward to"
    assert engine.act(Do("Wait")).path == "/a"
    assert press(engine, "b").path == "/b" and engine.act(Go(forward=False)).path == "/a"


def test_a_loop_and_a_bug_are_failures(engine: ParserEngine) -> None:
    with pytest.raises(EnvError, match="/loop redirects more than 10 times"):
        press(engine, "loop")
    with pytest.raises(EnvError, match="the site failed at /bug: ValueError: no page"):
        press(engine, "bug")


def test_impossible_actions_change_nothing(engine: ParserEngine) -> None:
    before = engine.act(Do("Wait"))
    assert refused(lambda: engine.act(Do("Click", element=99))) == "there is no element [99] on this page"
    assert refused(lambda: press(engine, "a", "Type", "x")) == "Type wants a text box; a [1] is a link"
    assert refused(lambda: press(engine, "sort", "Select Dropdown Option", "x")) == "sort [6] has no option x"
    assert engine.act(Do("Wait")) == before


def test_every_opening_is_fresh_and_closing_happens_once(engine: ParserEngine) -> None:
    press(engine, "a")
    first = engine.query(lambda site: site)
    assert text(engine.open(Small, "/")).startswith("visits 1 ") and first.closed == 1
    assert refused(lambda: engine.act(Go(forward=False))) == "there is no page to go back to"
    second = engine.query(lambda site: site)
    engine.close()
    engine.close()
    assert second.closed == 1


def test_there_are_no_pictures(engine: ParserEngine) -> None:
    with pytest.raises(UsageError, match="engine='browser'"):
        engine.screenshot()
