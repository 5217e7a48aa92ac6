"""The engine with a real Chromium: what ends an action, what a page may not do, and what a crash leaves."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from turngym.envs.errors import ActionError, Deadline, EnvError, UsageError
from turngym.envs.web.browser import Browser
from turngym.envs.web.browser_engine import SIZE, BrowserEngine
from turngym.envs.web.engine import Receive, Scope, Send
from turngym.envs.web.grammar import Do, Go
from turngym.envs.web.page import Element, Page

HTML = """<!doctype html><title>{path}</title><body>{method} {path} {cookie}
<a href="/b">b</a><a href="/b" target="_blank">blank</a><a href="/file">file</a><a href="/empty">empty</a>
<a href="javascript:void(document.title='script')">script</a><a href="/away">away</a><a href="/strict">strict</a>
<a href="{path}#part">part</a><a href="/slow">slow</a><a href="/broken">broken</a>
<form method="post" action="/post" autocomplete="off">
<input name="t" aria-label="box" required><button>post</button></form>
<select aria-label="choice"><option>one<option>two</select>
<button onclick="alert('no'); document.title = confirm('yes?')">ask</button>
<button onclick="window.open('/b')">window</button><button onclick="location.href = '/b'">script away</button>
<button onclick="for (;;);">hang</button><button onclick="this.remove(); document.title = 'removed'">remove</button>
<button onclick="document.querySelector('a').remove()">remove the first link</button>
<button onclick="spy(this)">spy</button>
<script>
  async function spy(button) {{
    const reached = [];
    for (const url of ["{other}", "http://127.0.0.1:{port}/", "http://example.com/", "https://example.com/"])
      await fetch(url, {{mode: "no-cors"}}).then(() => reached.push(url), () => 0);
    document.title = "reached " + reached.length;
  }}
</script>"""


class Small:
    """A site with one page; it counts the requests that reach it."""

    def __init__(self, other: str = "") -> None:
        self.other, self.seen, self.slow = other, list[str](), asyncio.Event()
        self.app = Starlette(routes=[Route("/{path:path}", self.show, methods=["GET", "POST"])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def close(self) -> None:
        self.slow.set()

    async def show(self, request: Request) -> Response:
        path, headers = request.url.path, {"cache-control": "no-store"}
        self.seen.append(f"{request.method} {path}")
        if path == "/file":
            return Response("x", headers={"content-disposition": "attachment; filename=x"})
        if path == "/empty":
            return Response(status_code=204)
        if path == "/away":
            return RedirectResponse("http://example.com/", 303)
        if path == "/broken":
            raise ValueError("on purpose")
        if path == "/strict":
            headers["content-security-policy"] = "form-action 'none'"
        if path == "/slow":
            await self.slow.wait()
        html = HTML.format(
            path=path,
            method=request.method,
            cookie=request.cookies.get("seen", "no cookie"),
            other=self.other,
            port=request.url.port,
        )
        answer = HTMLResponse(html, headers=headers)
        answer.set_cookie("seen", "a cookie")
        return answer


@pytest.fixture(scope="module")
def shared() -> Iterator[BrowserEngine]:
    engine = BrowserEngine()
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: BrowserEngine) -> BrowserEngine:
    shared.open(Small, "/")
    return shared


def named(page: Page, text: str) -> Element:
    return next(e for e in page.elements if e.text == text)


def click(engine: BrowserEngine, text: str) -> Page:
    page = engine.act(Do("Wait"))
    return engine.act(Do("Click", element=named(page, text).id))


def test_a_link_a_form_and_the_way_back(engine: BrowserEngine) -> None:
    assert click(engine, "b").path == "/b"
    box = named(engine.act(Do("Wait")), "box")
    assert named(engine.act(Do("Type", "words", box.id)), "box").value == "words"
    assert click(engine, "post").blocks[0] == "POST /post a cookie"
    assert engine.act(Go(forward=False)).path == "/b"
    assert engine.act(Go(forward=True)).blocks[0] == "GET /post a cookie"  # an answer to a POST is asked for by GET
    assert [engine.act(Go(forward=False)).path for _ in range(2)] == ["/b", "/"]
    with pytest.raises(ActionError, match="no page to go back to"):
        engine.act(Go(forward=False))


def test_enter_and_search_submit_whatever_the_browser_would_validate(engine: BrowserEngine) -> None:
    assert engine.act(Do("Press Enter")).path == "/"  # nothing has the focus
    box = named(engine.act(Do("Wait")), "box")
    engine.act(Do("Click", element=box.id))
    assert engine.act(Do("Press Enter")).path == "/post"
    assert engine.act(Do("Search", "x", box.id)).blocks[0] == "POST /post a cookie"


def test_a_choice(engine: BrowserEngine) -> None:
    choice = named(engine.act(Do("Wait")), "choice")
    assert named(engine.act(Do("Select Dropdown Option", "two", choice.id)), "choice").value == "two"


@pytest.mark.parametrize(
    ("text", "title", "path"),
    [
        ("file", "/", "/"),
        ("empty", "/", "/"),
        ("script", "script", "/"),
        ("ask", "false", "/"),
        ("window", "/", "/"),
        ("remove", "removed", "/"),
        ("part", "/", "/"),
        ("blank", "/b", "/b"),
        ("script away", "/b", "/b"),
    ],
)
def test_what_a_click_leads_to(engine: BrowserEngine, text: str, title: str, path: str) -> None:
    page = click(engine, text)
    assert (page.title, page.path) == (title, path)
    assert click(engine, "b").path == "/b"  # and the tab goes on


def test_a_form_that_the_page_forbids_is_not_waited_for(engine: BrowserEngine) -> None:
    click(engine, "strict")
    assert click(engine, "post").path == "/strict"


def test_an_element_that_is_gone_meanwhile(engine: BrowserEngine) -> None:
    page = click(engine, "remove the first link")
    assert "b" not in [e.text for e in page.elements]
    with pytest.raises(ActionError, match=r"there is no element \[99\] on this page"):
        engine.act(Do("Click", element=99))


def test_a_redirect_out_is_undone(engine: BrowserEngine) -> None:
    click(engine, "b")
    with pytest.raises(ActionError, match="leads away"):
        click(engine, "away")
    assert engine.act(Do("Wait")).path == "/b"
    with pytest.raises(ActionError, match="no page to go forward to"):
        engine.act(Go(forward=True))


def test_a_page_reaches_nothing_but_its_own_site(engine: BrowserEngine) -> None:
    other = BrowserEngine()
    other.open(Small, "/")
    try:
        engine.open(lambda: Small(other.origin), "/")
        page = click(engine, "spy")
        while page.title == "/":  # the script takes its time
            page = engine.act(Do("Wait"))
        assert page.title == "reached 0"
        assert other.query(lambda site: site.seen) == ["GET /"]
    finally:
        other.close()


def test_episodes_share_no_cookies_and_start_without_history(engine: BrowserEngine) -> None:
    assert click(engine, "b").blocks[0] == "GET /b a cookie"
    assert engine.open(Small, "/").blocks[0] == "GET / no cookie"
    with pytest.raises(ActionError):
        engine.act(Go(forward=False))
    assert engine.query(lambda site: site.seen) == ["GET /"]


def test_a_picture(engine: BrowserEngine) -> None:
    png = engine.screenshot()
    assert png.startswith(b"\x89PNG")
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == SIZE


def test_a_page_that_hangs_meets_a_deadline() -> None:
    engine = BrowserEngine(seconds=5)
    try:
        for text in ("hang", "slow"):
            engine.open(Small, "/")
            engine.seconds = 1
            with pytest.raises(Deadline, match="did not answer in 1 s"):
                click(engine, text)
            with pytest.raises(EnvError, match="no page is open"):
                engine.act(Do("Wait"))
            engine.seconds = 10
        assert engine.open(Small, "/").path == "/"
    finally:
        engine.close()


def test_a_site_that_fails_is_no_page(engine: BrowserEngine) -> None:
    with pytest.raises(EnvError, match="the site failed: ValueError: on purpose"):
        click(engine, "broken")
    with pytest.raises(EnvError, match="on purpose"):
        engine.open(Small, "/broken")
    assert engine.open(Small, "/").path == "/"


def test_a_crashed_page_fails_its_episode_only(engine: BrowserEngine) -> None:
    other = BrowserEngine()
    other.open(Small, "/")
    try:
        assert engine._tab
        crash = engine._tab._session.send("Page.crash")
        with pytest.raises(EnvError):
            engine._run(engine._tab.guard(crash))
        with pytest.raises(EnvError, match="crashed"):
            engine.act(Do("Wait"))
        assert engine.open(Small, "/").path == "/"
        assert click(other, "b").path == "/b"
    finally:
        other.close()


def test_a_killed_browser_is_replaced(engine: BrowserEngine) -> None:
    os.kill(browser_pid(engine), signal.SIGKILL)
    with pytest.raises(EnvError):
        while True:  # until the news arrives
            engine.act(Do("Wait"))
    assert engine.open(Small, "/").path == "/"


def test_the_last_engine_ends_the_browser(shared: BrowserEngine) -> None:
    shared.close()
    first, second = BrowserEngine(), BrowserEngine()
    first.open(Small, "/")
    second.open(Small, "/")
    pid = browser_pid(first)
    assert browser_pid(second) == pid
    first.close()
    first.close()
    assert click(second, "b").path == "/b"
    second.close()
    assert not Browser._shared
    assert not alive(pid)
    assert "turngym-browser" not in [t.name for t in threading.enumerate()]


def test_what_is_not_open(shared: BrowserEngine) -> None:
    engine = BrowserEngine()
    engine.close()
    for act in (lambda: engine.act(Do("Wait")), engine.screenshot):
        with pytest.raises(EnvError, match="no page is open"):
            act()
    with pytest.raises(ZeroDivisionError):
        shared.open(lambda: 1 // 0, "/")  # type: ignore[arg-type, return-value]
    assert shared.open(Small, "/").path == "/"


def test_a_visible_browser_wants_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(UsageError, match="wants a display"):
        BrowserEngine(headless=False).open(Small, "/")


def browser_pid(engine: BrowserEngine) -> int:
    assert engine._browser
    browser = engine._browser

    async def ask() -> int:
        session = await browser.chromium.new_browser_cdp_session()
        found = await session.send("SystemInfo.getProcessInfo")
        return next(p["id"] for p in found["processInfo"] if p["type"] == "browser")

    return browser.run(ask(), 10)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
