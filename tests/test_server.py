"""The sites' thread and its lanes: sites kept apart by name, everything else refused and counted, gone when closed."""

import os
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from processes import files, wait

from turngym.envs.errors import Deadline, EnvError, UsageError
from turngym.envs.web.engine import Receive, Scope, Send
from turngym.envs.web.server import VARIABLE, Lane, Sites


class Words:
    """A site that answers with its word, the path and its thread."""

    def __init__(self, word: str) -> None:
        self.word, self.thread, self.closed = word, threading.current_thread(), list[threading.Thread]()
        self.streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert threading.current_thread() is self.thread
        if scope["path"] == "/fail":
            raise ValueError("on purpose")
        headers = [(b"content-type", b"text/plain")]
        if scope["path"] == "/file":
            headers.append((b"Content-Disposition", b"attachment"))
        status = 204 if scope["path"] == "/empty" else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if scope["path"] == "/stream":
            await self.stream(send)
        words = f"{self.word} {scope['path']} {scope['query_string'].decode()}".strip()
        await send({"type": "http.response.body", "body": words.encode() * (status == 200)})

    async def stream(self, send: Send) -> None:
        self.streams += 1
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        finally:
            self.streams -= 1

    def state(self) -> str:
        return self.word

    def close(self) -> None:
        self.closed.append(threading.current_thread())


@pytest.fixture
def sites() -> Iterator[Sites]:
    sites = Sites()
    yield sites
    sites.stop()


@pytest.fixture
def lane(sites: Sites) -> Lane:
    return sites.lane()


def one(lane: Lane) -> str:
    """Opens an episode with the one site "one": its origin."""
    (origin,) = lane.open({"one": lambda: Words("one")})
    return origin


def fetch(lane: Lane, url: str, **headers: str) -> httpx.Response:
    with httpx.Client(proxy=lane.url, trust_env=False) as client:
        return client.get(url, headers=headers)


def test_sites_are_told_apart_by_name_and_share_a_token(lane: Lane) -> None:
    opened = lane.open({name: lambda name=name: Words(name) for name in ("one", "two")})  # type: ignore[misc]
    assert [fetch(lane, f"{origin}/a%20b?c=d").text for origin in opened] == ["one /a b c=d", "two /a b c=d"]
    assert list(opened.values()) == ["one", "two"]
    first, second = (origin.removeprefix("http://").split(".") for origin in opened)
    assert (first[0], second[0]) == ("one", "two")
    assert first[1:] == second[1:] and len(first[1]) == 16 and first[2] == "localhost"
    assert lane.refused == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://localhost:{port}/",
        "http://127.0.0.1:{port}/",
        "http://{host}:{port}/",
        "http://other.{token}.localhost/",
        "http://one.{token}.localhost.example.com/",
        "http://one.0000000000000000.localhost/",
    ],
)
def test_every_other_address_is_refused_and_counted(lane: Lane, url: str) -> None:
    host = one(lane).removeprefix("http://")
    answer = fetch(lane, url.format(port=lane.port, host=host, token=host.split(".")[1]))
    assert (answer.status_code, answer.content, lane.refused) == (204, b"", 1)


def test_a_tunnel_is_refused_and_counted(lane: Lane) -> None:
    host = one(lane).removeprefix("http://")
    for url in ("https://example.com/", f"https://{host}/"):
        with pytest.raises(httpx.ProxyError, match="403"):
            fetch(lane, url)
    assert lane.refused == 2


def test_a_request_that_is_none_for_a_proxy_reaches_no_site(lane: Lane) -> None:
    host = one(lane).removeprefix("http://")
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"http://127.0.0.1:{lane.port}/", headers={"host": host}).status_code == 403


def test_the_episode_before_is_not_counted(lane: Lane) -> None:
    old = one(lane)
    assert fetch(lane, old).text == "one /"
    one(lane)
    assert fetch(lane, old).status_code == 204  # what its page still asks for
    assert fetch(lane, "http://example.com/", referer=old).status_code == 204
    assert fetch(lane, "http://example.com/", origin=old).status_code == 204
    assert lane.refused == 0
    fetch(lane, "http://example.com/")
    assert lane.refused == 1


def test_lanes_lead_to_their_own_sites_only(sites: Sites) -> None:
    first, second = sites.lane(), sites.lane()
    origins = one(first), one(second)
    assert fetch(first, origins[0]).text == "one /"
    assert fetch(first, origins[1]).status_code == 204
    assert (first.refused, second.refused) == (1, 0)


def test_what_became_of_a_page(lane: Lane) -> None:
    origin, page = one(lane), {"sec-fetch-dest": "document"}
    for path, fate in (("/file", "download"), ("/", "page"), ("/empty", "empty")):
        fetch(lane, origin + path, **page)
        assert lane.fate == fate
    fetch(lane, origin + "/file")  # no page asked for it
    assert lane.fate == "empty"
    fetch(lane, "http://example.com/", **{"upgrade-insecure-requests": "1"})
    assert lane.fate == "away"


def test_pages_are_caged(lane: Lane) -> None:
    policy = fetch(lane, one(lane)).headers["content-security-policy"]
    assert "sandbox" in policy
    assert not {"allow-popups", "allow-modals", "allow-downloads"} & set(policy.split())


def test_a_site_is_made_asked_and_closed_in_one_thread(lane: Lane) -> None:
    one(lane)
    site = lane.query(lambda sites: sites["one"])
    assert isinstance(site, Words)
    assert lane.query(lambda sites: threading.current_thread()) is site.thread
    assert site.thread is not threading.current_thread()
    lane.end()
    assert site.closed == [site.thread]
    lane.end()
    assert len(site.closed) == 1
    with pytest.raises(EnvError, match="no sites"):
        lane.query(lambda sites: sites)


def test_the_next_episode_closes_the_sites_of_the_last(lane: Lane) -> None:
    one(lane)
    site = lane.query(lambda sites: sites["one"])
    assert isinstance(site, Words)
    one(lane)
    assert site.closed == [site.thread]


def test_a_site_that_cannot_be_made_leaves_none_open(lane: Lane) -> None:
    made = list[Words]()

    def make() -> Words:
        made.append(Words("one"))
        return made[0]

    with pytest.raises(ZeroDivisionError):
        lane.open({"one": make, "two": lambda: 1 // 0})  # type: ignore[dict-item, return-value]
    assert made[0].closed
    with pytest.raises(EnvError, match="no sites"):
        lane.query(lambda sites: sites)


def test_errors_reach_the_one_who_asked(lane: Lane) -> None:
    origin = one(lane)
    with pytest.raises(ZeroDivisionError):
        lane.query(lambda sites: 1 // 0)
    lane.check()
    assert fetch(lane, origin + "/fail").status_code == 500
    assert fetch(lane, origin).status_code == 200
    with pytest.raises(EnvError, match="the site failed: ValueError: on purpose"):
        lane.check()
    one(lane)
    lane.check()


@pytest.mark.parametrize("leave", [True, False])
def test_a_stream_without_end_ends_with_its_reader_or_its_episode(lane: Lane, leave: bool) -> None:
    origin = one(lane)
    site = lane.query(lambda sites: sites["one"])
    assert isinstance(site, Words)
    with httpx.Client(proxy=lane.url, trust_env=False) as client, client.stream("GET", origin + "/stream") as answer:
        chunks = answer.iter_raw()
        next(chunks)
        assert site.streams == 1
        if not leave:
            lane.end()
            wait(lambda: not site.streams)
            with pytest.raises(httpx.TransportError):
                list(chunks)
    wait(lambda: not site.streams)


def test_a_site_that_hangs_meets_a_deadline() -> None:
    sites, release = Sites(seconds=0.2), threading.Event()
    lane = sites.lane()
    one(lane)
    with pytest.raises(Deadline, match=r"did not answer in 0.2 s"):
        lane.query(lambda sites: release.wait())
    release.set()
    sites.seconds = 30
    sites.stop()


def test_a_closed_lane_is_no_open_port(lane: Lane) -> None:
    origin = one(lane)
    before = files()
    with httpx.Client(proxy=lane.url, trust_env=False) as client:
        client.get(origin)
        lane.close()
        lane.close()
    with pytest.raises(httpx.ConnectError):
        fetch(lane, origin)
    wait(lambda: files() < before)


def test_stopping_closes_all_and_the_next_starts_anew(sites: Sites) -> None:
    lane = sites.lane()
    origin = one(lane)
    site = lane.query(lambda sites: sites["one"])
    assert isinstance(site, Words)
    sites.stop()
    sites.stop()
    assert site.closed == [site.thread] and not site.thread.is_alive()
    with pytest.raises(httpx.ConnectError):
        fetch(lane, origin)
    with pytest.raises(EnvError, match="not running"):
        lane.query(lambda sites: sites)
    lane.close()
    following = sites.lane()
    assert fetch(following, one(following)).text == "one /"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_sites_of_its_own(sites: Sites) -> None:
    lane = sites.lane()
    origin = one(lane)
    child = os.fork()
    if not child:
        code = 1
        try:
            lane.end()  # its parent's
            following = sites.lane()
            code = 0 if fetch(following, one(following)).text == "one /" else 2
            sites.stop()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert fetch(lane, origin).text == "one /"


def test_remote_browsers_are_served_where_the_variable_says(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0.0.0.0")
    lane, local = sites.lane(remote=True), sites.lane()
    assert lane.url == f"http://sites.localhost:{lane.port}"
    assert local.url == f"http://127.0.0.1:{local.port}"
    assert [of._listener.getsockname()[0] for of in (lane, local)] == ["0.0.0.0", "127.0.0.1"]
    monkeypatch.setenv(VARIABLE, "192.0.2.1")  # of nobody's machine
    with pytest.raises(UsageError, match=r"cannot serve at 192.0.2.1 port 0: .* by TURNGYM_SITES_HOST"):
        sites.lane(remote=True)


def test_answers_do_not_wait_for_acknowledgements(lane: Lane) -> None:
    """Nagle's algorithm would cost 40 ms for each."""
    origin = one(lane)
    with httpx.Client(proxy=lane.url, trust_env=False) as client:
        client.get(origin)
        (connection,) = lane._connections
        served = connection.transport.get_extra_info("socket")
        assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
