"""What ``turngym sites`` serves: sites found by their hosts, kept for a while, made anew when asked, ended quietly."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from turngym.envs.web.engine import Receive, Scope, Send
from turngym.envs.web.serve import SITES, Gallery
from turngym.trainers.cli import main

COMMAND = [sys.executable, "-c", "import sys; from turngym.trainers.cli import main; sys.exit(main())", "sites"]
ALL = sorted(SITES)
THING = {"shop": "product/1", "forum": "topic/1"}  # a page that shows words of the split


class Slow:
    """A site that answers when it is let; ``/word`` answers at once."""

    def __init__(self) -> None:
        self.asked, self.let, self.closed = asyncio.Event(), asyncio.Event(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert not self.closed
        self.asked.set()
        if scope["path"] != "/word":
            await self.let.wait()
        assert not self.closed
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(id(self)).encode()})

    def state(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Slow]]:
    """The slow sites made so far, by seed; they are at slow.SEED.localhost."""
    made: dict[int, list[Slow]] = {}

    def make(seed: int, split: str) -> Slow:
        made.setdefault(seed, []).append(site := Slow())
        return site

    monkeypatch.setitem(SITES, "slow", make)  # type: ignore[arg-type]
    return made


def visit(gallery: Gallery, *visits: str) -> list[httpx.Response]:
    """The answers to ``"[POST ]host/path"``, one after the other."""

    async def run() -> list[httpx.Response]:
        async with client(gallery) as made:
            return [await ask(made, what) for what in visits]

    return asyncio.run(run())


def client(gallery: Gallery) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(gallery), trust_env=False)  # type: ignore[arg-type]


async def ask(made: httpx.AsyncClient, what: str) -> httpx.Response:
    method, _, where = what.rpartition(" ")
    host, _, path = where.partition("/")
    return await made.request(method or "GET", f"http://here/{path}", headers={"host": host})


@pytest.mark.parametrize("site", ALL)
def test_a_seed_is_one_world_and_another_seed_another(site: str) -> None:
    one, again, other = visit(Gallery(), *(f"{site}.{seed}.localhost/{THING[site]}" for seed in (7, 7, 8)))
    assert (one.status_code, other.status_code) == (200, 200)
    assert one.text == again.text == visit(Gallery(), f"{site}.7.localhost/{THING[site]}")[0].text != other.text
    assert one.text != visit(Gallery("train"), f"{site}.7.localhost/{THING[site]}")[0].text


def test_sites_of_a_seed_belong_together() -> None:
    """What is advised in a forum is a link to the thing of that name in the shop with the same number."""
    gallery = Gallery()
    topics = visit(gallery, *(f"forum.7.localhost:8000/topic/{number}" for number in range(1, 30)))
    link = r'<a href="http://(shop\.7\.localhost:8000/product/\d+)"><small>[^<]*</small> ([^<]*)</a>'
    links = [found for topic in topics for found in re.findall(link, topic.text)]
    assert links
    for (_, name), product in zip(links, visit(gallery, *(link for link, _ in links)), strict=True):
        assert product.status_code == 200 and name in product.text


def test_each_seed_has_a_database_of_its_own_and_reset_makes_it_anew() -> None:
    gallery = Gallery()
    seven, eight, added, kept, untouched = visit(
        gallery,
        "shop.7.localhost/cart",
        "shop.8.localhost/cart",
        "POST shop.7.localhost/product/1/add",
        "shop.7.localhost/cart",
        "shop.8.localhost/cart",
    )
    assert added.status_code == 303
    assert kept.text != seven.text and untouched.text == eight.text
    reset, anew = visit(gallery, "POST shop.7.localhost/-/reset", "shop.7.localhost/cart")
    assert (reset.status_code, reset.text) == (200, "ok")
    assert anew.text == seven.text
    refused, still = visit(gallery, "shop.7.localhost/-/reset", "POST shop.9.localhost/-/reset")
    assert (refused.status_code, refused.headers["allow"], still.status_code) == (405, "POST", 200)


def test_the_index_links_to_sites_that_are_there() -> None:
    gallery = Gallery()
    pages = visit(gallery, "localhost:8000/", "LOCALHOST.:8000/", "127.0.0.1:8000/", "[::1]:8000/", "localhost/")
    assert [page.status_code for page in pages] == [200] * 5
    assert pages[0].text == pages[1].text == pages[2].text == pages[3].text
    links = re.findall(r'href="http://([^"]*)"', pages[0].text)
    assert {link.split(".")[0] for link in links} == set(ALL) and all(":8000/" in link for link in links)
    assert [page.status_code for page in visit(gallery, *links)] == [200] * len(links)
    assert 'href="http://shop.0.localhost/"' in pages[4].text


@pytest.mark.parametrize(
    "where",
    [
        "nothing.7.localhost/",
        "shop.localhost/",
        "shop.x.localhost/",
        "shop.-1.localhost/",
        "shop.07.localhost/",
        f"shop.{10**18}.localhost/",
        "shop.7.localhost.example.com/",
        "shop.7.example.com/",
        "a.shop.7.localhost/",
        "localhost/elsewhere",
        "example.com/",
        "<script>/",
    ],
)
def test_whatever_is_not_there_is_a_page_that_says_so(where: str) -> None:
    (page,) = visit(Gallery(), where)
    assert page.status_code == 404 and "no such site" in page.text and "localhost" in page.text
    assert "<script" not in page.text and "example" not in page.text


def test_health_is_answered_at_every_host() -> None:
    for page in visit(Gallery(), "shop.7.localhost/-/health", "localhost/-/health", "example.com/-/health"):
        assert (page.status_code, page.text) == (200, "ok")


def test_the_seed_that_nobody_asked_for_in_the_longest_time_is_forgotten(slow: dict[int, list[Slow]]) -> None:
    gallery = Gallery(kept=2)
    visit(gallery, *(f"slow.{seed}.localhost/word" for seed in (1, 2, 1, 3)))
    assert {seed: [site.closed for site in made] for seed, made in slow.items()} == {1: [0], 2: [1], 3: [0]}
    visit(gallery, "slow.2.localhost/word")
    assert {seed: [site.closed for site in made] for seed, made in slow.items()} == {1: [1], 2: [1, 0], 3: [0]}
    gallery.close()
    gallery.close()
    assert [site.closed for made in slow.values() for site in made] == [1] * 4


def test_a_site_is_not_closed_under_a_request(slow: dict[int, list[Slow]]) -> None:
    async def run() -> None:
        async with client(Gallery(kept=1)) as made:
            for i, away in enumerate(("POST slow.1.localhost/-/reset", "slow.2.localhost/word")):
                waiting = asyncio.create_task(ask(made, "slow.1.localhost/"))
                while len(slow.get(1, [])) <= i:
                    await asyncio.sleep(0)
                site = slow[1][i]
                await site.asked.wait()
                assert (await ask(made, away)).status_code == 200
                assert site.closed == 0
                site.let.set()
                assert (await waiting).text == str(id(site))
                assert site.closed == 1

    asyncio.run(run())
    assert len(slow[1]) == 2


@pytest.fixture
def served() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """``turngym sites`` as a process, and its port."""
    command = [*COMMAND, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    line = process.stdout.readline()
    found = re.search(r"http://localhost:(\d+)/", line)
    try:
        assert found, line
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def test_the_command_serves_until_it_is_interrupted(served: tuple["subprocess.Popen[str]", str]) -> None:
    process, port = served
    host = {"host": f"shop.7.localhost:{port}"}
    page = httpx.get(f"http://127.0.0.1:{port}/", headers=host, trust_env=False)
    assert page.status_code == 200 and page.text == visit(Gallery(), host["host"] + "/")[0].text
    busy = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True)
    assert (busy.returncode, busy.stdout) == (2, "")
    assert busy.stderr == (
        f"turngym: error: cannot serve at 127.0.0.1 port {port}: {os.strerror(98 if sys.platform == 'linux' else 48)};"
        " name another host or port\n"
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--port 65536", "a port is from 0 to 65535, not 65536"),
        ("--port -1", "a port is from 0 to 65535, not -1"),
        ("--split tset", "argument --split: unknown value tset; did you mean test? (see turngym sites --help)"),
        ("--hots a", "unknown option --hots; did you mean --host?"),
    ],
)
def test_a_mistake_is_one_line(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sites", *words.split()]) == 2
    assert capsys.readouterr().err == f"turngym: error: {line}\n"


def test_an_address_that_is_not_ours_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sites", "--host", "192.0.2.1"]) == 2  # a block for documentation
    assert "cannot serve at 192.0.2.1 port 8000: " in (line := capsys.readouterr().err) and line.count("\n") == 1
