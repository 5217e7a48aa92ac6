"""The two engines are one: the same pages, the same errors and the same shop after every action."""

import random
from collections.abc import Callable, Iterator
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
from turngym.envs.web.engine import Engine, Receive, Scope, Send, Site
from turngym.envs.web.grammar import ON_ELEMENT, ON_PAGE, Do, Go
from turngym.envs.web.page import Element, Page, render
from turngym.envs.web.parser_engine import ParserEngine
from turngym.envs.web.shop.app import ShopSite
from turngym.envs.web.shop.data import grow

WALKS, STEPS = 20, 12
TEXTS = ("chair", "", "a b", "q~*é&=?#%'\"<b>", "x\ny", "-1.5", " ")
# Clicking is what leads anywhere; the rest is there to leave something behind.
WEIGHTS = {"Click": 10, "Type": 3, "Search": 2, "Select Dropdown Option": 3, "Press Enter": 1, "back": 3, "forward": 2}


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    with ExitStack() as stack:
        yield (
            stack.enter_context(closing(ParserEngine())),
            stack.enter_context(closing(BrowserEngine())),
        )


def shop(seed: int) -> Callable[[], Site]:
    stock = grow(np.random.default_rng(seed), "train")
    return lambda: ShopSite(stock)


NASTY = """<!doctype html><title> {path}
 &amp; more </title><body>
{method} {path} {query} {body} <!-- comment --> visits {visits}
<p>one<b>two</b>three</p> &nbsp;x&#8195;y&#xfeff;z <template><a href="/t">template</a></template>
<noscript><a href="/n">noscript</a></noscript><div hidden><a href="/h">hidden</a></div>
<script>var a = "<a href='/s'>";</script><style>b{{}}</style>
<a href="{path}">self</a><a href="">empty</a><a href="?p=1&amp;q= é'|">query</a><a href="sub/ä page">relative</a>
<a href="#part">part</a><a href="../up">up</a><a>no href</a><a href="/away"><i>to</i> <b>away</b></a><a href="http://example.com/">outside</a>
<a href="?">bare</a><a href="mailto:a@b">mail</a><a href="//example.com/x">other</a>
<a href="/moved">moved</a><a href="/late">late</a>
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
<button>no form</button><input autocomplete="off" aria-label="stray"> end"""


class Nasty:
    """A site with one page of everything that HTML has, and redirects that change with time."""

    def __init__(self) -> None:
        self.visits = 0
        self.app = Starlette(routes=[Route("/{path:path}", self.show, methods=["GET", "POST"])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def close(self) -> None:
        pass

    async def show(self, request: Request) -> Response:
        self.visits += 1
        headers, path = {"cache-control": "no-store"}, request.url.path
        if path == "/moved" or (path == "/late" and self.visits % 3):
            return RedirectResponse("/target", 302, headers)
        if path == "/back":
            return RedirectResponse(request.query_params.get("to", "/"), 303, headers)
        facts = {"path": path, "query": request.url.query, "method": request.method, "visits": self.visits}
        facts["body"] = (await request.body()).decode()
        shown = {name: escape(str(fact)) for name, fact in facts.items()}
        return HTMLResponse(NASTY.format(**shown), 404 if path == "/up" else 200, headers)


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
        action = rng.choice((*ON_ELEMENT, *ON_PAGE, "Switch Tab"))
    if action in ON_PAGE:
        return Do(action)
    if action == "Switch Tab":
        return Do(action, rng.choice("01"))
    if action in ON_ELEMENT:
        return Do(action, element=some(rng, page, "button", "link").id)
    if action == "Select Dropdown Option":
        chosen = some(rng, page, "select")
        return Do(action, rng.choice((*chosen.options, *chosen.options, "no such option")), chosen.id)
    words = [w for e in page.elements if e.kind == "link" for w in e.text.split()]
    return Do(action, rng.choice((*TEXTS, *words)), some(rng, page, "textbox").id)


def answer(engine: Engine, command: Do | Go, before: Page) -> tuple[Page, str]:
    try:
        return engine.act(command), ""
    except ActionError as error:
        return before, str(error)


def walk(engines: tuple[Engine, Engine], make: Callable[[], Site], seed: int, steps: int = STEPS) -> list[Do | Go]:
    """Both engines through one random walk; fails at the first difference, and shows the way to it."""
    rng, way = random.Random(seed), list[Do | Go]()
    page, other = (engine.open(make, "/") for engine in engines)
    assert page == other
    for _ in range(steps):
        way.append(choose(rng, page))
        (page, error), (other, problem) = (answer(engine, way[-1], page) for engine in engines)
        assert (page, error) == (other, problem), f"seed {seed}: {way}"
        assert render(page, error=error) == render(other, error=problem)
    return way


@pytest.mark.parametrize("seed", range(WALKS))
def test_random_walks(engines: tuple[Engine, Engine], seed: int) -> None:
    walk(engines, shop(seed), seed)
    state, other = (engine.query(lambda site: site.store.status()) for engine in engines)
    assert state == other


@pytest.mark.parametrize("seed", range(WALKS // 4))
def test_random_walks_where_everything_is_odd(engines: tuple[Engine, Engine], seed: int) -> None:
    walk(engines, Nasty, seed)
