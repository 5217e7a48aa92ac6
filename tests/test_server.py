"""One server, many sites: kept apart by name, each living in one thread, and gone when closed."""

import os
import threading
from collections.abc import Iterator

import httpx
import pytest

from turngym.envs.errors import Deadline, EnvError
from turngym.envs.web.engine import Receive, Scope, Send
from turngym.envs.web.server import Sites


class Words:
    """A site that answers with its word, the path and its thread."""

    def __init__(self, word: str) -> None:
        self.word, self.thread, self.closed = word, threading.current_thread(), list[threading.Thread]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert threading.current_thread() is self.thread
        if scope["path"] == "/fail":
            raise ValueError("on purpose")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": f"{self.word} {scope['path']}".encode()})

    def close(self) -> None:
        self.closed.append(threading.current_thread())


@pytest.fixture
def sites() -> Iterator[Sites]:
    sites = Sites()
    yield sites
    sites.stop()


def fetch(origin: str, path: str = "/", host: str | None = None) -> httpx.Response:
    url = httpx.URL(origin)
    headers = {"host": host or url.netloc.decode()}
    return httpx.get(f"http://127.0.0.1:{url.port}{path}", headers=headers, trust_env=False)


def test_sites_are_told_apart_by_host(sites: Sites) -> None:
    origins = [sites.open(lambda word=word: Words(word))[1] for word in ("one", "two")]  # type: ignore[misc]
    assert [fetch(origin, "/a").text for origin in origins] == ["one /a", "two /a"]
    assert origins[0] != origins[1]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "other.localhost:{port}", "{token}.example.com:{port}", "{token}.localhost"]
)
def test_an_unknown_host_is_not_found(sites: Sites, host: str) -> None:
    token, origin = sites.open(lambda: Words("one"))
    answer = fetch(origin, host=host.format(token=token, port=httpx.URL(origin).port))
    assert (answer.status_code, answer.text) == (404, "no such site")


def test_a_site_is_made_asked_and_closed_in_one_thread(sites: Sites) -> None:
    token, _ = sites.open(lambda: Words("one"))
    site = sites.call(token, lambda site: site)
    assert sites.call(token, lambda site: threading.current_thread()) is site.thread
    assert site.thread is not threading.current_thread()
    sites.close(token)
    assert site.closed == [site.thread]
    sites.close(token)
    assert len(site.closed) == 1
    with pytest.raises(EnvError, match="no site"):
        sites.call(token, lambda site: site)


def test_errors_reach_the_one_who_asked(sites: Sites) -> None:
    token, origin = sites.open(lambda: Words("one"))
    with pytest.raises(ZeroDivisionError):
        sites.call(token, lambda site: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        sites.open(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    sites.check(token)
    assert fetch(origin, "/fail").status_code == 500
    assert fetch(origin).status_code == 200
    with pytest.raises(EnvError, match="the site failed: ValueError: on purpose"):
        sites.check(token)


def test_a_site_that_hangs_meets_a_deadline() -> None:
    sites, release = Sites(seconds=0.2), threading.Event()
    token, _ = sites.open(lambda: Words("one"))
    with pytest.raises(Deadline, match="did not answer in 0.2 s"):
        sites.call(token, lambda site: release.wait())
    release.set()
    sites.seconds = 30
    sites.stop()


def test_stopping_closes_all_and_the_next_starts_anew(sites: Sites) -> None:
    token, first = sites.open(lambda: Words("one"))
    site = sites.call(token, lambda site: site)
    sites.stop()
    sites.stop()
    assert site.closed == [site.thread] and not site.thread.is_alive()
    with pytest.raises(httpx.ConnectError):
        fetch(first)
    with pytest.raises(EnvError, match="not running"):
        sites.call(token, lambda site: site)
    assert fetch(sites.open(lambda: Words("two"))[1]).text == "two /"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_sites_of_its_own(sites: Sites) -> None:
    token, origin = sites.open(lambda: Words("one"))
    child = os.fork()
    if not child:
        code = 1
        try:
            sites.close(token)  # its parent's
            code = 0 if fetch(sites.open(lambda: Words("two"))[1]).text == "two /" else 2
            sites.stop()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert fetch(origin).text == "one /"


def test_many_requests_do_not_wait_for_acknowledgements(sites: Sites) -> None:
    """Nagle's algorithm would cost 40 ms for each; the fastest of ten shows that it is off."""
    _, origin = sites.open(lambda: Words("one"))
    url = httpx.URL(origin)
    with httpx.Client(headers={"host": url.netloc.decode()}, trust_env=False) as client:
        times = [client.get(f"http://127.0.0.1:{url.port}/").elapsed.total_seconds() for _ in range(10)]
    assert min(times[1:]) < 0.03
