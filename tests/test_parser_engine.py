"""The engine without a browser: its tabs, its sites and its origins, on small sites that are made here."""

from collections.abc import Callable, Iterator, Sequence
from html import escape

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from turngym.envs import ActionError, EnvError, UsageError
from turngym.envs.web import Do, Go, Page, Place
from turngym.envs.web.engine import TABS, Receive, Scope, Send
from turngym.envs.web.parser_engine import ParserEngine

PAGE = """<title>{path}</title>visits {visits} {method} {query} {body}
<a href="/a">a</a><a href="/b">b</a><a href="{path}">self</a><a href="#part">part</a>
<form method=post action=/post><input type=hidden name=h value=1><input name=t aria-label=box>
<select name=s aria-label=sort><option value=u>up<option value=d>down</select>
<button name=b value=x>send</button></form>
<form action=/search><input name=q aria-label=query></form>
<a href="http://other.example/">outside</a><a href="https://{host}/">secure</a><a href="mailto:a@b">mail</a>
<a href="/leave">leave</a><a href="/loop">loop</a><a href="/moved">moved</a><a href="/bug">bug</a>
<form method=post action=http://other.example/><button>post outside</button></form>
<a href="{path}" target=_blank>new</a><a href="http://{twin}/b?x=1">twin</a>
<a href="http://{twin}/a" target=_blank>new twin</a><a href="http://other.example/" target=_blank>new outside</a>
<a href="/a" target=_self>same</a><a href="/leave" target=_blank>new leave</a>"""


class Small:
    """Pages that say how they were asked for, redirects of every kind, and links to the site called ``twin``."""

    def __init__(self) -> None:
        self.visits, self.closed = 0, 0
        self.app = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def state(self) -> int:
        return self.visits

    def close(self) -> None:
        self.closed += 1

    async def answer(self, request: Request) -> Response:
        self.visits += 1
        path = request.url.path
        if path == "/bug":
            raise ValueError("no page")
        to = {"/loop": "/loop", "/moved": "/b", "/post": "/a", "/leave": "http://other.example/"}.get(path)
        if to:
            return RedirectResponse(to, 303)
        body = (await request.body()).decode()
        facts = {"path": path, "method": request.method, "query": request.url.query, "visits": str(self.visits)}
        host = request.headers["host"]
        facts |= {"body": body, "host": host, "twin": f"twin.{host.partition('.')[2]}"}
        return HTMLResponse(PAGE.format(**{k: escape(v) for k, v in facts.items()}))


@pytest.fixture
def engine() -> Iterator[ParserEngine]:
    engine = ParserEngine()
    open_(engine, "/")
    yield engine
    engine.close()


def open_(engine: ParserEngine, *paths: str) -> Page:
    """Two sites of a kind, "small" and "twin", and a tab of the first for each path."""
    return engine.open({"small": Small, "twin": Small}, [Place("small", path) for path in paths])


def visits(engine: ParserEngine) -> list[int]:
    """How often the small site and its twin were asked."""
    return engine.query(lambda sites: [sites[name].state() for name in ("small", "twin")])


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
    page = open_(engine, "/b?x=1")
    assert (page.title, page.path, text(page)) == ("/b", "/b?x=1", "visits 1 GET x=1")


OUTSIDE = ["outside", "secure", "mail", "leave", "post outside", "new outside", "new leave"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_other_origins_are_blocked_and_counted(engine: ParserEngine, name: str) -> None:
    before = engine.act(Do("Wait"))
    assert engine.refused == 0
    assert refused(lambda: press(engine, name)) == "that leads away from the site and is blocked"
    assert engine.act(Do("Wait")) == before and engine.refused == 1
    assert refused(lambda: engine.act(Go(forward=False))) == "there is no page to go back to"
    press(engine, "a")
    assert engine.refused == 1
    open_(engine, "/")
    assert engine.refused == 0


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
    press(engine, "new")
    first = engine.query(lambda sites: tuple(sites.values()))
    page = open_(engine, "/")
    assert text(page).startswith("visits 1 ") and page.tabs == () and [site.closed for site in first] == [1, 1]
    assert refused(lambda: engine.act(Go(forward=False))) == "there is no page to go back to"
    second = engine.query(lambda sites: tuple(sites.values()))
    engine.close()
    engine.close()
    assert [site.closed for site in second] == [1, 1] and not {*map(id, first)} & {*map(id, second)}


def test_there_are_no_pictures(engine: ParserEngine) -> None:
    with pytest.raises(UsageError, match="engine='browser'"):
        engine.screenshot()


def switch(engine: ParserEngine, tab: int) -> Page:
    return engine.act(Do("Switch Tab", str(tab)))


def test_a_link_with_a_target_opens_a_tab_and_shows_it(engine: ParserEngine) -> None:
    press(engine, "a")
    page = press(engine, "new twin")
    assert (page.site, page.path, page.tabs, page.tab) == ("twin", "/a", ("/a", "/a"), 1)
    assert visits(engine) == [2, 1]
    assert refused(lambda: engine.act(Go(forward=False))) == "there is no page to go back to"
    assert refused(lambda: engine.act(Go(forward=True))) == "there is no page to go forward to"
    page = switch(engine, 0)
    assert (page.site, page.path, page.tab, visits(engine)) == ("small", "/a", 0, [2, 1])


@pytest.mark.parametrize("name", ["same", "a"])
def test_a_link_without_another_target_stays_in_its_tab(engine: ParserEngine, name: str) -> None:
    page = press(engine, name)
    assert (page.path, page.tabs, page.tab) == ("/a", (), 0)


def test_tabs_have_histories_of_their_own(engine: ParserEngine) -> None:
    back, forward = Go(forward=False), Go(forward=True)
    press(engine, "a")
    press(engine, "new")
    press(engine, "b")
    assert switch(engine, 0).path == "/a" and engine.act(back).path == "/"
    assert switch(engine, 1).path == "/b"
    assert refused(lambda: engine.act(forward)) == "there is no page to go forward to"
    assert engine.act(back).path == "/a"
    assert refused(lambda: engine.act(back)) == "there is no page to go back to"
    assert switch(engine, 0).path == "/" and engine.act(forward).path == "/a"
    assert switch(engine, 1).path == "/a" and engine.act(forward).path == "/b"


def values(page: Page) -> dict[str, str]:
    return {e.text: e.value for e in page.elements if e.kind in ("textbox", "select")}


def test_a_tab_keeps_what_was_typed_and_what_has_the_focus(engine: ParserEngine) -> None:
    open_(engine, "/", "/b")
    press(engine, "sort", "Select Dropdown Option", "down")
    here = press(engine, "query", "Type", "mug")
    there = switch(engine, 1)
    assert values(there) == {"box": "", "sort": "up", "query": ""}
    press(engine, "box", "Type", "hat")
    assert switch(engine, 0) == here and values(here) == {"box": "", "sort": "down", "query": "mug"}
    assert visits(engine) == [2, 0]
    assert engine.act(Do("Press Enter")).path == "/search?q=mug"  # in the box that this tab was left in
    assert values(switch(engine, 1)) == {"box": "hat", "sort": "up", "query": ""}


@pytest.mark.parametrize("shown", [0, 1])
def test_switching_to_the_tab_shown_changes_nothing(engine: ParserEngine, shown: int) -> None:
    open_(engine, "/", "/b")
    before = switch(engine, shown)
    assert switch(engine, shown) == before and visits(engine) == [2, 0]


def test_there_is_no_other_tab(engine: ParserEngine) -> None:
    before = engine.act(Do("Wait"))
    assert switch(engine, 0) == before
    assert refused(lambda: switch(engine, 1)) == "there is no tab 1"
    open_(engine, "/", "/b")
    assert refused(lambda: switch(engine, 2)) == "there is no tab 2" and engine.act(Do("Wait")).tab == 0


def test_tabs_have_a_limit(engine: ParserEngine) -> None:
    for number in range(1, TABS):
        assert press(engine, "new").tab == number
    before, asked = engine.act(Do("Wait")), visits(engine)
    assert refused(lambda: press(engine, "new")) == f"there is no room for another tab: {TABS} are open"
    assert engine.act(Do("Wait")) == before and len(before.tabs) == TABS and visits(engine) == asked
    assert press(engine, "a").path == "/a"  # what needs no tab goes on


@pytest.mark.parametrize(("paths", "titles"), [(["/a"], ()), (["/a", "/b"], ("/a", "/b"))])
def test_every_place_has_a_tab_and_the_first_is_shown(
    engine: ParserEngine, paths: Sequence[str], titles: tuple[str, ...]
) -> None:
    page = open_(engine, *paths)
    assert (page.path, page.tabs, page.tab, visits(engine)) == ("/a", titles, 0, [len(paths), 0])
    page = engine.open({"one": Small, "two": Small}, [Place("two", "/b"), Place("one"), Place("two")])
    assert (page.site, page.path, page.tabs) == ("two", "/b", ("/b", "/", "/"))
    assert [switch(engine, i).site for i in (1, 2)] == ["one", "two"]


def test_sites_link_to_each_other_within_a_tab(engine: ParserEngine) -> None:
    page = press(engine, "twin")
    assert (page.site, page.path, visits(engine)) == ("twin", "/b?x=1", [1, 1])
    assert press(engine, "a").site == "twin"
    pages = [engine.act(Go(forward=False)) for _ in range(2)]
    assert [(p.site, p.path) for p in pages] == [("twin", "/b?x=1"), ("small", "/")]
    assert engine.refused == 0


def test_a_link_to_another_episode_is_blocked() -> None:
    one, two = ParserEngine(), ParserEngine()
    hosts = []
    for engine in (one, two):
        open_(engine, "/")
        hosts.append(engine._network.address("small", "/"))

    class Spy(Small):
        async def answer(self, request: Request) -> Response:
            links = [f'<a href="{host}">{name}</a>' for name, host in zip(("one", "two"), hosts, strict=True)]
            return HTMLResponse(" ".join(links))

    assert len(set(hosts)) == 2
    two.open({"small": Spy}, [Place("small")])
    for name in ("one", "two"):  # not even the sites of its own last episode
        assert refused(lambda name=name: press(two, name)) == "that leads away from the site and is blocked"
    assert two.refused == 2 and visits(one) == [1, 0]
    one.close()
    two.close()


def test_numbers_stay_while_a_page_does(engine: ParserEngine) -> None:
    numbers = [(e.id, e.text) for e in engine.act(Do("Wait")).elements]
    open_(engine, "/", "/b")
    for command in (
        *(Do(action) for action in ("Wait", "Scroll Down", "Press Enter")),
        Do("Hover", element=1),
        Do("Type", "hat", 5),
        Do("Select Dropdown Option", "down", 6),
        Do("Click", element=5),
        Do("Switch Tab", "1"),
        Do("Switch Tab", "0"),
        Do("Click", element=4),  # a part of the page
        Go(forward=False),
    ):
        page = engine.act(command)
        assert [(e.id, e.text) for e in page.elements] == numbers
    assert [i for i, _ in numbers] == list(range(1, len(numbers) + 1))
