"""The engine with a real Chromium: what ends an action, tabs, what pages may not do, and what failures leave."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from turngym.envs.errors import ActionError, EnvError, UsageError
from turngym.envs.web.browser import Browser
from turngym.envs.web.browser_engine import BrowserEngine
from turngym.envs.web.effects import AWAY, DOWNLOAD, Noted
from turngym.envs.web.engine import TABS, Place, Receive, Scope, Send
from turngym.envs.web.frame import DIALOG, WINDOW
from turngym.envs.web.grammar import Do, Go
from turngym.envs.web.page import Element, Page
from turngym.envs.web.profile import SIZE

HTML = """<!doctype html><title>{path}</title><body>{method} {path} {cookie}
<a href="/b">b</a><a href="/b" target="_blank">blank</a><a href="/file">file</a><a href="/empty">empty</a>
<a href="javascript:void(document.title='script')">script</a><a href="/away">away</a><a href="/strict">strict</a>
<a href="{path}#part">part</a><a href="/broken">broken</a><a href="/b" download>save</a>
<a href="/secure">secure away</a><a href="http://example.com/">outside</a><a href="/hop">hop</a><a href="/late">late</a>
<a href="http://example.com/" target="w">outside window</a><a href="/file" target="w">file window</a>
<a href="/empty" target="w">empty window</a><a href="/away" target="w">away window</a>
<a href="/b" target="w" onclick="event.preventDefault(); document.title = 'handled'">handled window</a>
<form method="post" action="/post" autocomplete="off">
<input name="t" aria-label="box" required><button>post</button></form>
<select aria-label="choice" onchange="if (this.value === 'go') location.href = '/b'">
<option>one<option>two<option>go</select>
<button onclick="alert('no'); document.title = confirm('yes?')">ask</button>
<button onclick="document.title = window.open('/b')">window</button><button onclick="location.href = '/b'">to b</button>
<button onclick="this.remove(); document.title = 'removed'">remove</button>
<button onclick="document.querySelector('a').remove()">remove the first link</button>
<button onclick="location.href = 'mailto:a@b'">mail</button>
<button onclick="Promise.resolve().then(() => {{ document.title = 'then' }})">promise</button>
<button onclick="setTimeout(() => {{ document.title = 'waited' }}, 60)">timer</button>
<button onmouseover="document.title = 'over'">over</button>
<button oncontextmenu="document.title = 'menu ' + event.button + event.defaultPrevented">menu</button>
<div hidden id="more"><a href="/b">more</a></div><div style="height: 3000px"></div>
<script>
  addEventListener("scroll", () => {{ document.title = "at " + Math.round(scrollY) }});
  addEventListener("beforeunload", (event) => event.preventDefault());
</script>"""


class Small:
    """A site with one page; it notes the requests that reach it."""

    def __init__(self) -> None:
        self.seen = list[str]()
        self.app = Starlette(routes=[Route("/{path:path}", self.show, methods=["GET", "POST"])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def state(self) -> list[str]:
        return self.seen

    def close(self) -> None:
        pass

    async def show(self, request: Request) -> Response:
        path, headers = request.url.path, {"cache-control": "no-store"}
        self.seen.append(f"{request.method} {path}")
        match path:
            case "/file":
                return Response("x", headers={"content-disposition": "attachment; filename=x"})
            case "/empty":
                return Response(status_code=204)
            case "/away" | "/secure":
                return RedirectResponse(f"http{'s' * (path == '/secure')}://example.com/", 303)
            case "/broken":
                raise ValueError("on purpose")
            case "/strict":
                headers["content-security-policy"] = "form-action 'none'"
            case "/hop":
                return HTMLResponse("<title>hop</title><meta http-equiv=refresh content='0; /b'>")
            case "/late":
                return HTMLResponse("<title>late</title><script>location.href = '/b'</script>")
        cookie = request.cookies.get("seen", "no cookie")
        answer = HTMLResponse(HTML.format(path=path, method=request.method, cookie=cookie), headers=headers)
        answer.set_cookie("seen", "a cookie")
        return answer


SITES, HOME = {"small": Small}, (Place("small"),)


@pytest.fixture(scope="module")
def shared() -> Iterator[BrowserEngine]:
    engine = BrowserEngine()
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: BrowserEngine) -> BrowserEngine:
    shared.open(SITES, HOME)
    return shared


def named(page: Page, text: str) -> Element:
    return next(e for e in page.elements if e.text == text)


def now(engine: BrowserEngine) -> Page:
    """The page as it is, without waiting for it to change."""
    return engine.act(Do("Scroll Up"))


def do(engine: BrowserEngine, action: str, text: str, argument: str = "") -> Page:
    return engine.act(Do(action, argument, named(now(engine), text).id))


def click(engine: BrowserEngine, text: str) -> Page:
    return do(engine, "Click", text)


def seen(engine: BrowserEngine) -> list[str]:
    return engine.query(lambda sites: list(sites["small"].state()))


def test_a_link_a_form_and_the_way_back(engine: BrowserEngine) -> None:
    assert click(engine, "b").path == "/b"
    assert named(do(engine, "Type", "box", "words"), "box").value == "words"
    assert click(engine, "post").blocks[0] == "POST /post a cookie"
    assert engine.act(Go(forward=False)).path == "/b"
    assert engine.act(Go(forward=True)).blocks[0] == "GET /post a cookie"  # an answer to a POST is asked for by GET
    assert [engine.act(Go(forward=False)).path for _ in range(2)] == ["/b", "/"]
    with pytest.raises(ActionError, match="no page to go back to"):
        engine.act(Go(forward=False))


def test_enter_and_search_submit_whatever_the_browser_would_validate(engine: BrowserEngine) -> None:
    assert engine.act(Do("Press Enter")).path == "/"  # nothing has the focus
    do(engine, "Click", "box")
    assert engine.act(Do("Press Enter")).path == "/post"
    assert do(engine, "Search", "box", "x").blocks[0] == "POST /post a cookie"


def test_a_choice_and_one_that_leads_on(engine: BrowserEngine) -> None:
    assert named(do(engine, "Select Dropdown Option", "choice", "two"), "choice").value == "two"
    assert do(engine, "Select Dropdown Option", "choice", "go").path == "/b"


@pytest.mark.parametrize(
    ("text", "title", "path"),
    [
        ("empty", "/", "/"),
        ("script", "script", "/"),
        ("remove", "removed", "/"),
        ("promise", "then", "/"),
        ("part", "/", "/"),
        ("to b", "/b", "/b"),
        ("hop", "/b", "/b"),
        ("late", "/b", "/b"),
    ],
)
def test_what_a_click_leads_to(engine: BrowserEngine, text: str, title: str, path: str) -> None:
    page = click(engine, text)
    assert (page.title, page.path, page.site, page.tabs) == (title, path, "small", ())
    assert click(engine, "b").path == "/b"  # and the tab goes on


@pytest.mark.parametrize(
    ("text", "error", "refused"),
    [
        ("file", DOWNLOAD, 0),
        ("save", DOWNLOAD, 0),
        ("file window", DOWNLOAD, 0),
        ("outside", AWAY, 1),
        ("outside window", AWAY, 1),
        ("away", AWAY, 1),
        ("away window", AWAY, 1),
        ("secure away", AWAY, 1),
        ("mail", AWAY, 1),
    ],
)
def test_what_does_not_happen_leaves_all_as_it_was(engine: BrowserEngine, text: str, error: str, refused: int) -> None:
    before = click(engine, "b")
    with pytest.raises(ActionError, match=error) as raised:
        click(engine, text)
    assert not isinstance(raised.value, Noted)
    assert (engine.refused, now(engine)) == (refused, before)
    assert engine.act(Go(forward=False)).path == "/"


@pytest.mark.parametrize(("text", "error", "title"), [("ask", DIALOG, "false"), ("window", WINDOW, "null")])
def test_dialogs_and_windows_are_told_beside_the_page(engine: BrowserEngine, text: str, error: str, title: str) -> None:
    with pytest.raises(Noted, match=error) as raised:
        click(engine, text)
    assert raised.value.page.title == title
    assert now(engine) == raised.value.page
    assert click(engine, "b").path == "/b"


def test_a_form_that_the_page_forbids_is_not_waited_for(engine: BrowserEngine) -> None:
    click(engine, "strict")
    assert click(engine, "post").path == "/strict"


def test_an_element_that_is_gone_meanwhile(engine: BrowserEngine) -> None:
    page = click(engine, "remove the first link")
    assert "b" not in [e.text for e in page.elements]
    with pytest.raises(ActionError, match=r"there is no element \[99\] on this page"):
        engine.act(Do("Click", element=99))


def test_the_pointer_the_clock_and_the_wheel(engine: BrowserEngine) -> None:
    first = now(engine)
    assert do(engine, "Hover", "over").title == "over"
    assert do(engine, "Right Click", "menu").title == "menu 2false"
    assert click(engine, "timer").title == "menu 2false"
    assert engine.act(Do("Wait")).title == "waited"
    for act, times in (("Scroll Down", 1), ("Scroll Down", 2), ("Scroll Up", 1)):
        assert engine.act(Do(act)).title == f"at {times * round(SIZE[1] * 0.9)}"
    assert now(engine).elements == first.elements  # the same elements have the same numbers


def test_tabs(engine: BrowserEngine) -> None:
    page = click(engine, "blank")
    assert (page.path, page.tabs, page.tab) == ("/b", ("/", "/b"), 1)
    with pytest.raises(ActionError, match="no page to go back to"):
        engine.act(Go(forward=False))
    assert click(engine, "post").tabs == ("/", "/post")
    page = engine.act(Do("Switch Tab", "0"))
    assert (page.path, page.tab) == ("/", 0)
    page = click(engine, "empty window")
    assert (page.title, page.path, page.site, page.blocks, page.tab) == ("", "/empty", "", (), 2)
    assert now(engine) == page
    page = engine.act(Do("Switch Tab", "1"))
    assert engine.act(Go(forward=False)).tabs == ("/", "/b", "")
    with pytest.raises(ActionError, match="there is no tab 3"):
        engine.act(Do("Switch Tab", "3"))
    assert click(engine, "handled window").title == "handled"
    for _ in range(TABS - 3):
        click(engine, "blank")
    with pytest.raises(ActionError, match=f"no room for another tab: {TABS} are open"):
        click(engine, "blank")
    assert len(now(engine).tabs) == TABS
    assert engine.open(SITES, HOME).tabs == ()


def test_several_sites_share_an_episode(shared: BrowserEngine) -> None:
    page = shared.open({"one": Small, "two": Small}, (Place("one"), Place("two", "/b")))
    assert (page.site, page.path, page.tabs, page.tab) == ("one", "/", ("/", "/b"), 0)
    assert shared.act(Do("Switch Tab", "1")).site == "two"
    assert shared.query(lambda sites: [site.state() for site in sites.values()]) == [["GET /"], ["GET /b"]]


def test_a_picture(engine: BrowserEngine) -> None:
    png = engine.screenshot()
    assert png.startswith(b"\x89PNG")
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == SIZE


def test_a_site_that_fails_is_no_page(engine: BrowserEngine) -> None:
    with pytest.raises(EnvError, match="the site failed: ValueError: on purpose"):
        click(engine, "broken")
    with pytest.raises(EnvError, match="on purpose"):
        engine.open(SITES, (Place("small", "/broken"),))
    assert engine.open(SITES, HOME).path == "/"


def test_the_last_engine_ends_the_browser(shared: BrowserEngine) -> None:
    shared.close()
    first, second = BrowserEngine(), BrowserEngine()
    first.open(SITES, HOME)
    second.open(SITES, HOME)
    assert first._browser is second._browser
    first.close()
    first.close()
    assert click(second, "b").path == "/b"
    second.close()
    assert not Browser._shared


def test_what_is_not_open(shared: BrowserEngine) -> None:
    engine = BrowserEngine()
    engine.close()
    for act in (lambda: engine.act(Do("Wait")), engine.screenshot, lambda: engine.query(len)):
        with pytest.raises(EnvError, match="no page is open"):
            act()
    assert engine.refused == 0
    with pytest.raises(ZeroDivisionError):
        shared.open({"small": lambda: 1 // 0}, HOME)  # type: ignore[dict-item, return-value]
    assert shared.open(SITES, HOME).path == "/"


def test_a_visible_browser_wants_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(UsageError, match="wants a display"):
        BrowserEngine(headless=False).open(SITES, HOME)
    with pytest.raises(UsageError, match="shows no window here"):
        BrowserEngine(headless=False, remote=True)
