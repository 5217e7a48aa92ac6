"""The addresses of an episode: its own sites answer, with the cookies that they set; nothing else is ever asked."""

import re
from collections.abc import Awaitable, Callable

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from turngym.envs import ActionError, EnvError
from turngym.envs.web import network as module
from turngym.envs.web.document import Document, Submission
from turngym.envs.web.effects import AWAY, DOWNLOAD
from turngym.envs.web.engine import Receive, Scope, Send
from turngym.envs.web.network import Network

Answering = Callable[[Request], Awaitable[Response]]


class Log:
    """A site that writes down what it was asked: (method, path, query, body, cookies)."""

    def __init__(self, answering: Answering) -> None:
        self.asked: list[tuple[str, str, str, str, str]] = []
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body, cookies = (await request.body()).decode(), request.headers.get("cookie", "")
        self.asked.append((request.method, request.url.path, request.url.query, body, cookies))
        await (await self._answering(request))(scope, receive, send)

    def state(self) -> int:
        return len(self.asked)

    def close(self) -> None:
        pass


async def answer(request: Request) -> Response:
    """Does what the path says; what comes after the second slash says more."""
    _, what, *more = request.url.path.split("/", 2)
    said = more[0] if more else ""
    if what == "set":
        response: Response = HTMLResponse("set")
        for cookie in said.split("|"):
            response.headers.append("set-cookie", cookie)
    elif what.isdecimal() and what.startswith("3"):
        response = RedirectResponse(f"/{said}?{request.url.query}", int(what), {"set-cookie": "way=here; Path=/"})
    elif what.isdecimal():
        response = Response(said, int(what), media_type="text/html")
    elif what == "to":
        response = RedirectResponse(request.query_params["url"])
    elif what == "file":
        response = HTMLResponse("file", headers={"content-disposition": f"attachment; filename={said}"})
    else:
        response = HTMLResponse(f"<title>{what}</title>")
    return response


@pytest.fixture
def network() -> Network:
    return made()


def made() -> Network:
    return Network({"shop": Log(answer), "forum": Log(answer)}, "token")


def asked(network: Network, site: str = "shop") -> list[tuple[str, str, str, str, str]]:
    found = network._sites[f"{site}.token.localhost"]
    assert isinstance(found, Log)
    return found.asked


def load(network: Network, path: str, site: str = "shop", body: str | None = None) -> Document | None:
    url = network.address(site, path)
    return network.load(url, None if body is None else Submission("post", url, body))


def title(document: Document | None) -> str:
    assert document is not None
    return document.page.title


def test_every_site_has_an_address_and_answers_there(network: Network) -> None:
    assert network.address("shop", "/a?x=1") == "http://shop.token.localhost/a?x=1"
    for site in ("shop", "forum"):
        document = load(network, "/a?x=1#part", site)
        assert document is not None and (document.page.title, document.page.path) == ("a", "/a?x=1")
        assert (document.page.site, document.url) == (site, f"http://{site}.token.localhost/a?x=1#part")
        assert asked(network, site) == [("GET", "/a", "x=1", "", "")]


def test_a_post_carries_its_fields(network: Network) -> None:
    assert title(load(network, "/a?x=1", body="name=Ada+L&y=%26")) == "a"
    assert asked(network) == [("POST", "/a", "x=1", "name=Ada+L&y=%26", "")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_and_only_307_and_308_post_again(network: Network, status: int) -> None:
    document = load(network, f"/{status}/b?x=1", body="name=Ada")
    assert document is not None and document.page.path == "/b?x=1"
    again = ("POST", "/b", "x=1", "name=Ada") if status in (307, 308) else ("GET", "/b", "x=1", "")
    assert [a[:4] for a in asked(network)] == [("POST", f"/{status}/b", "x=1", "name=Ada"), again]
    load(network, f"/{status}/b")
    assert [a[0] for a in asked(network)[2:]] == ["GET", "GET"]


def test_a_redirect_that_posts_again_says_what_kind_of_body_it_is() -> None:
    kinds = []

    async def note(request: Request) -> Response:
        kinds.append(request.headers.get("content-type"))
        return await answer(request)

    network = Network({"shop": Log(note)}, "token")
    load(network, "/307/303/a", body="name=Ada")
    form = "application/x-www-form-urlencoded"
    assert kinds == [form, form, None]


def test_a_redirect_to_the_other_site_asks_that_site(network: Network) -> None:
    document = load(network, "/to?url=//forum.token.localhost/b")
    assert document is not None and (document.page.site, document.page.path) == ("forum", "/b")
    assert len(asked(network)) == len(asked(network, "forum")) == 1 and network.refused == 0


@pytest.mark.parametrize("status", [200, 304, 404, 500])
def test_other_answers_are_pages(network: Network, status: int) -> None:
    document = load(network, f"/{status}/words" if status != 304 else "/304/")
    assert document is not None
    if status == 200:
        assert document.page.blocks == ("words",)


def test_a_redirect_without_an_address_is_a_page() -> None:
    async def nowhere(request: Request) -> Response:
        return HTMLResponse("<title>here</title>", 302)

    assert title(load(Network({"shop": Log(nowhere)}, "token"), "/")) == "here"


@pytest.mark.parametrize("status", [204, 205])
@pytest.mark.parametrize("body", [None, "a=b"])
def test_an_answer_without_a_page_is_none(network: Network, status: int, body: str | None) -> None:
    assert load(network, f"/{status}/", body=body) is None
    assert load(network, f"/303/{status}/", body=body) is None
    assert len(asked(network)) == 3 and network.refused == 0


def test_a_download_is_refused_wherever_it_comes_from(network: Network) -> None:
    for path in ("/file/a.html", "/303/file/a.html"):
        with pytest.raises(ActionError) as caught:
            load(network, path)
        assert str(caught.value) == DOWNLOAD
    assert network.refused == 0  # it is of the site itself


def test_ten_requests_at_most(network: Network) -> None:
    assert title(load(network, "/303" * 9 + "/end")) == "end" and len(asked(network)) == 10
    with pytest.raises(EnvError, match="redirects more than 10 times"):
        load(network, "/303" * 10 + "/end")
    assert len(asked(network)) == 20


def cookies(network: Network, path: str = "/", site: str = "shop") -> str:
    """What the site is sent with a request for ``path``."""
    load(network, path, site)
    return asked(network, site)[-1][4]


def test_cookies_come_back_to_the_site_that_set_them(network: Network) -> None:
    assert cookies(network, "/set/a=1; Path=/") == ""
    assert cookies(network) == "a=1" and cookies(network, site="forum") == ""
    load(network, "/set/b=2; Path=/|c=3; Path=/; HttpOnly", "forum")
    assert sorted(cookies(network, site="forum").split("; ")) == ["b=2", "c=3"] and cookies(network) == "a=1"
    load(network, "/set/a=4; Path=/")
    assert cookies(network) == "a=4"
    load(network, "/x", body="q=1")
    assert asked(network)[-1][3:] == ("q=1", "a=4")
    load(network, "/set/a=; Path=/; Max-Age=0")
    assert cookies(network) == ""
    assert cookies(made()) == ""


def test_a_cookie_set_on_the_way_is_sent_at_the_end(network: Network) -> None:
    assert title(load(network, "/303/end")) == "end"
    assert [a[4] for a in asked(network)] == ["", "way=here"]


def test_a_cookie_of_a_path_stays_there(network: Network) -> None:
    load(network, "/set/a=1; Path=/cart")
    assert [cookies(network, path) for path in ("/", "/cart", "/cart/1", "/cartoon")] == ["", "a=1", "a=1", ""]


STRANGE = [
    *(
        "",
        "mailto:a@b",
        "javascript:alert(1)",
        "data:text/html,a",
        "about:blank",
        "//",
        "/path",
        "shop.token.localhost",
    ),
    *("https://shop.token.localhost/", "ws://shop.token.localhost/", "http://shop.token.localhost:8080/"),
    *("http://shop.other.localhost/", "http://token.localhost/", "http://a.shop.token.localhost/", "http://localhost/"),
    *("http://shop.token.localhost.example/", "http://shop.token.localhost@example/", "http://127.0.0.1/"),
    *("http://other.token.localhost/", "http://[::1]/", "http://[", "http://example:99999999/", "http://\u00ad/"),
]


@pytest.mark.parametrize("target", STRANGE)
def test_addresses_of_others_are_refused_and_counted(network: Network, target: str) -> None:
    for count in (1, 2):
        with pytest.raises(ActionError) as caught:
            network.own(target)
        assert str(caught.value) == AWAY and network.refused == count
    assert asked(network) == asked(network, "forum") == []


def test_a_redirect_that_leads_away_is_refused_and_counted_once(network: Network) -> None:
    with pytest.raises(ActionError) as caught:
        load(network, "/to?url=http://shop.other.localhost/a")
    assert str(caught.value) == AWAY and network.refused == 1 and len(asked(network)) == 1


@pytest.mark.parametrize(
    ("target", "spelled"),
    [
        ("http://shop.token.localhost", "http://shop.token.localhost/"),
        ("http://shop.token.localhost?a#b", "http://shop.token.localhost/?a#b"),
        ("http://ada:x@shop.token.localhost/a?#", "http://shop.token.localhost/a?#"),
        ("http://shop.token.localhost/a%2fb%27?", "http://shop.token.localhost/a%2fb%27?"),
        ("HTTP://SHOP.token.localhost:80/A?b", "http://shop.token.localhost/A?b"),
        ("http://shop.token.localhost/a b?it's#it's", "http://shop.token.localhost/a%20b?it%27s#it%27s"),
        ("http://shop.token.localhost/it's/é", "http://shop.token.localhost/it's/%C3%A9"),
        ("http://shop.token.localhost/a/../b/./c", "http://shop.token.localhost/b/c"),
    ],
)
def test_own_addresses_are_spelled_as_a_browser_does(network: Network, target: str, spelled: str) -> None:
    assert network.own(target) == spelled and network.refused == 0


HOSTS = st.sampled_from(["shop.token.localhost", "forum.token.localhost", "shop.other.localhost", "a-b.c", "x"])
PLAIN = st.text("abzAZ09_/~?=&+-", max_size=20)
ODD = st.text("a/.?=&+-#%'\" é:@\\[]\t", max_size=12) | st.text(max_size=8)


def outcome(target: str) -> tuple[str | None, int]:
    network = made()
    try:
        return network.own(target), network.refused
    except ActionError:
        return None, network.refused


@given(host=HOSTS, rest=PLAIN.map("/".__add__) | PLAIN | ODD)
@example(host="shop.token.localhost", rest="/./a")
@example(host="shop.token.localhost", rest="/?")
@example(host="shop.token.localhost", rest="//a//")
def test_the_fast_way_to_an_own_address_equals_the_slow_one(host: str, rest: str) -> None:
    target = f"http://{host}{rest}"
    fast = outcome(target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PLAIN", re.compile(r"(?!)"))
        slow = outcome(target)
    assert fast == slow


FRONTS = st.sampled_from(
    ["http://shop.token.localhost", "HTTP://Shop.token.localhost:80", "http://a:b@shop.token.localhost"]
)


@given(target=st.tuples(FRONTS, ODD | PLAIN.map("/".__add__)).map("".join) | ODD)
@example(target="http://name@shop.token.localhost/a")
@example(target="http://shop.token.localhost")
def test_what_is_let_through_is_asked_of_an_own_site(target: str) -> None:
    network = made()
    try:
        url = network.own(target)
    except ActionError:
        assert network.refused == 1
        return
    assert network.own(url) == url  # spelled once and for all
    try:
        document = network.load(url)
    except ActionError:  # a file, or a redirect that leads away
        document = None
    assert len(asked(network)) >= 1 and asked(network, "forum") == []
    if document is not None and len(asked(network)) == 1:
        assert document.page.path.encode() == httpx.URL(url).raw_path
