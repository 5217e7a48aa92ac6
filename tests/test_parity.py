"""The two engines are one: the same pages, errors, refusals and sites after every action.

``TURNGYM_WALKS`` says how many random walks there are of each kind.
"""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from html import escape

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from turngym.envs.errors import ActionError
from turngym.envs.web.browser_engine import BrowserEngine
from turngym.envs.web.engine import Engine, Make, Place, Receive, Scope, Send
from turngym.envs.web.grammar import ON_ELEMENT, ON_PAGE, Do, Go, parse
from turngym.envs.web.page import Element, Page, render
from turngym.envs.web.parser_engine import ParserEngine
from turngym.envs.web.suite import TEMPLATES
from turngym.envs.web.task import Task
from turngym.envs.web.template import Episode, Template

WALKS, STEPS = int(os.environ.get("TURNGYM_WALKS", "12")), 12
TEXTS = ("chair", "", "a b", "q~*é&=?#%'\"<b>", "x\ny", "-1.5", " ")
# Clicking is what leads anywhere; the rest is there to leave something behind. Wait takes its time in the browser.
WEIGHTS = {
    "Click": 10,
    "Type": 3,
    "Search": 2,
    "Select Dropdown Option": 3,
    "Press Enter": 1,
    "back": 3,
    "forward": 2,
    "Switch Tab": 3,
}
Sites = Mapping[str, Make]


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(closing(ParserEngine())),
            stack.enter_context(closing(BrowserEngine())),
        )


NASTY = """<!doctype html><title> {path}
 &amp; more </title><body>
{method} {path} {query} {body} <!-- comment --> visits {visits} knows {cookie}
<p>one<b>two</b>three</p> &nbsp;x&#8195;y&#xfeff;z <template><a href="/t">template</a></template>
<noscript><a href="/n">noscript</a></noscript><div hidden><a href="/h">hidden</a></div>
<script>var a = "<a href='/s'>";</script><style>b{{}}</style>
<a href="{path}">self</a><a href="">empty</a><a href="?p=1&amp;q= é'|">query</a><a href="sub/ä page">relative</a>
<a href="#part">part</a><a href="../up">up</a><a>no href</a><a href="/away"><i>to</i> <b>away</b></a><a href="http://example.com/">outside</a>
<a href="?">bare</a><a href="mailto:a@b">mail</a><a href="//example.com/x">other</a>
<a href="/moved">moved</a><a href="/late">late</a><a href="/file">file</a><a href="/none">none</a>
<a href="{twin}/b?x=1">twin</a><a href="/over">over to the twin</a><a href="{twin}/over" target="_blank">twin tab</a>
<a href="/new?tab" target="w">new tab</a><a href="/moved" target="_BLANK">moved tab</a>
<a href="/x" target="_TOP">top</a>
<a href="/away" target="w">away tab</a><a href="/file" target="w">file tab</a><a href="/none" target="w">none tab</a>
<a href="#part" target="w">part tab</a><a href="mailto:a@b" target="w">mail tab</a>
<a href="/away#part">far part</a><a href="{path}#part">same part</a><a href="http://[">broken</a>
<label for="t">a <b>label</b></label>
<label>wrapped <input autocomplete="off" name="w" value="was &quot;set&quot;"></label>
<form autocomplete="off" method="post" action="/post?kept=1"><input type="hidden" name="h" value="1">
<input id="t" name="t"><textarea name="area" aria-label=" the  area ">
 first
second</textarea><input type="number" name="n" aria-label="number" value="3"><input type="SEARCH" name="s">
<input type="checkbox" name="c"><input disabled name="d" value="4"><button disabled name="b" value="0">off</button>
<button name="b" value="1">first</button><input type="submit" name="b" value=" second ">
<button type="button">none</button>
<select name="o" aria-label="options"><option value="1">one<option value="2" selected>two  two<option>three</select>
<select id="empty" name="empty"></select><input type="checkbox" name="yes" checked>
<div hidden><input name="unseen" value="5"></div></form>
<form autocomplete="off" action="/get?old=1"><input name="q" aria-label="lonely"></form>
<form autocomplete="off"><button>here</button></form>
<form autocomplete="off" method="POST"><button>here too</button></form>
<form autocomplete="off" method="post" action="/back?to={path}"><button>and back</button></form>
<form autocomplete="off" action="http://example.com/"><button>leave</button></form>
<form autocomplete="off" action="{twin}/get" target="_blank"><input name="t" aria-label="to the twin"></form>
<form autocomplete="off" method="post" action="{twin}/post"><button>post to the twin</button></form>
<button>no form</button><input autocomplete="off" aria-label="stray"> end"""


class Nasty:
    """A site with one page of everything that HTML has, redirects that change with time, a cookie, and a twin."""

    def __init__(self) -> None:
        self.visits = 0
        self.app = Starlette(routes=[Route("/{path:path}", self.show, methods=["GET", "POST"])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def state(self) -> int:
        return self.visits

    def close(self) -> None:
        pass

    async def show(self, request: Request) -> Response:
        self.visits += 1
        headers, path = {"cache-control": "no-store"}, request.url.path
        name, _, token = request.headers["host"].partition(".")
        twin = f"http://{'two' if name == 'one' else 'one'}.{token}"
        if path == "/moved" or (path == "/late" and self.visits % 3):
            return RedirectResponse("/target", 302, headers)
        if path == "/back":
            return RedirectResponse(request.query_params.get("to", "/"), 303, headers)
        if path == "/over":
            return RedirectResponse(f"{twin}/from?{name}", 302, headers)
        if path == "/away":
            return RedirectResponse("http://example.com/", 302, headers)
        if path == "/file":
            return Response("x", headers={**headers, "content-disposition": 'Attachment; filename="x"'})
        if path == "/none":
            return Response(status_code=204, headers=headers)
        facts = {"path": path, "query": request.url.query, "method": request.method, "visits": self.visits}
        facts["body"] = (await request.body()).decode()
        facts |= {"twin": twin, "cookie": " ".join(sorted(request.cookies.values())) or "nothing"}
        shown = {name: escape(str(fact)) for name, fact in facts.items()}
        answer = HTMLResponse(NASTY.format(**shown), 404 if path == "/up" else 200, headers)
        if path == "/post":
            answer.set_cookie("own", name)
            answer.set_cookie("shared", f"{name}s", domain=token)
        return answer


def some(rng: random.Random, page: Page, *kinds: str) -> Element:
    """An element of one of ``kinds``, sometimes of another kind, sometimes one that is not there."""
    fitting = [e for e in page.elements if e.kind in kinds]
    anything = [*page.elements, Element(len(page.elements) + 1, "link", "missing")]
    return rng.choice(fitting if fitting and rng.random() < 0.9 else anything)


def choose(rng: random.Random, page: Page) -> Do | Go:
    action = rng.choices([*WEIGHTS, "other"], [*WEIGHTS.values(), 1])[0]
    if action in ("back", "forward"):
        return Go(forward=action == "forward")
    if action == "other":
        action = rng.choice((*ON_ELEMENT, *ON_PAGE))
    if action in ON_PAGE:
        return Do(action)
    if action == "Switch Tab":
        return Do(action, str(rng.randint(0, len(page.tabs))))
    if action in ON_ELEMENT:
        return Do(action, element=some(rng, page, "button", "link").id)
    if action == "Select Dropdown Option":
        chosen = some(rng, page, "select")
        return Do(action, rng.choice((*chosen.options, *chosen.options, "no such option")), chosen.id)
    words = [w for e in page.elements if e.kind == "link" for w in e.text.split()]
    return Do(action, rng.choice((*TEXTS, *words)), some(rng, page, "textbox").id)


def answer(engine: Engine, command: Do | Go, before: Page) -> tuple[Page, str, int]:
    try:
        return engine.act(command), "", engine.refused
    except ActionError as error:
        return before, str(error), engine.refused


def both(engines: tuple[Engine, Engine], command: Do | Go, before: Page, way: Sequence[object]) -> Page:
    """The page after ``command`` in both engines, which must be one; shows the ``way`` to a difference."""
    (page, error, refused), other = (answer(engine, command, before) for engine in engines)
    assert other == (page, error, refused), f"{command} after {way}"
    assert render(other[0], error=other[1]) == render(page, error=error)
    return page


def states(engine: Engine) -> dict[str, object]:
    return engine.query(lambda sites: {name: site.state() for name, site in sites.items()})


def walk(engines: tuple[Engine, Engine], sites: Sites, places: Sequence[Place], seed: int) -> None:
    """Both engines through one random walk."""
    rng, way = random.Random(seed), list[Do | Go]()
    page, other = (engine.open(sites, places) for engine in engines)
    assert page == other
    for _ in range(STEPS):
        command = choose(rng, page)
        page = both(engines, command, page, (f"seed {seed}", *way))
        way.append(command)
    state, other_state = map(states, engines)
    assert state == other_state


def drawn(template: Template, seed: int) -> Episode:
    return template.episode(np.random.default_rng(seed), "train")


@pytest.mark.parametrize("seed", range(WALKS))
def test_random_walks(engines: tuple[Engine, Engine], seed: int) -> None:
    episode = drawn(TEMPLATES[-1 - seed % len(TEMPLATES)], seed)  # those across sites come first
    walk(engines, episode.sites, episode.task.start, seed)


@pytest.mark.parametrize("seed", range(WALKS))
def test_random_walks_where_everything_is_odd(engines: tuple[Engine, Engine], seed: int) -> None:
    places = (Place("one"), Place("two", "/a b?c=d"), Place("one", "/none"))[: 1 + seed % 3]
    walk(engines, {"one": Nasty, "two": Nasty}, places, seed)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_gold_sequences(engines: tuple[Engine, Engine], template: Template) -> None:
    episode = drawn(template, 1)
    page, other = (engine.open(episode.sites, episode.task.start) for engine in engines)
    assert page == other
    task: Task = episode.task
    for i, step in enumerate(task.gold[:-1]):
        command = parse(step.spell(page))
        assert isinstance(command, Do | Go)
        page = both(engines, command, page, task.gold[:i])
    state, other_state = map(states, engines)
    assert state == other_state
