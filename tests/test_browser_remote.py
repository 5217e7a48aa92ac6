"""The remote engine over DevTools and over Playwright's WebSocket: the same pages, and browsers that stay alive."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from playwright._impl._driver import compute_driver_executable
from processes import alive, wait

from turngym.envs.errors import ActionError, EnvError, UsageError
from turngym.envs.web.browser import Browser
from turngym.envs.web.browser_engine import BrowserEngine
from turngym.envs.web.chromium import find, flags
from turngym.envs.web.engine import Place
from turngym.envs.web.grammar import Do, Go
from turngym.envs.web.page import Page
from turngym.envs.web.remote import VARIABLE
from turngym.envs.web.shop.data import grow
from turngym.envs.web.shop.tasks import site


@contextmanager
def devtools() -> Iterator[tuple[str, int]]:
    """A Chromium with its DevTools: where, and its process."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        words = [find(), "--headless", *flags(), "--remote-debugging-port=0", f"--user-data-dir={home}", "about:blank"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            port = Path(home, "DevToolsActivePort")
            wait(lambda: port.exists() and port.read_text().count("\n") > 0)
            yield f"http://127.0.0.1:{port.read_text().split()[0]}", process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def playwright_server() -> Iterator[tuple[str, int]]:
    """``playwright run-server``, told which executable to run: where, and its process."""
    words = [*compute_driver_executable(), "run-server", "--port=0", "--host=127.0.0.1", "--unsafe"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stdout
    try:
        said = process.stdout.readline().split()
        options = quote(json.dumps({"executablePath": find(), "args": flags(), "headless": True}))
        yield f"{said[-1]}?browser=chromium&launch-options={options}", process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


KINDS = {"devtools": devtools, "playwright": playwright_server}
SHOP = {"shop": site(grow(np.random.default_rng(0), "train"))}


@pytest.fixture(params=KINDS)
def remote(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with KINDS[request.param]() as (endpoint, pid):
        monkeypatch.setenv(VARIABLE, endpoint)
        yield pid


def walk(engine: BrowserEngine) -> list[Page | str]:
    """A fixed walk over all kinds of actions."""
    way: list[Do | Go] = [
        *(Do("Click", element=i) for i in (4, 7, 5, 4)),
        Do("Search", "red", 3),
        Do("Hover", element=1),
        Do("Scroll Down"),
        Do("Wait"),
        Go(forward=False),
        Go(forward=True),
        Do("Right Click", element=2),
        Do("Switch Tab", "1"),
        Do("Click", element=2),
        Do("Click", element=99),
    ]
    pages: list[Page | str] = [engine.open(SHOP, (Place("shop"), Place("shop", "/cart")))]
    for command in way:
        try:
            pages.append(engine.act(command))
        except ActionError as error:
            pages.append(str(error))
    return pages


def test_remote_browsers_show_what_ours_does(remote: int) -> None:
    ours, theirs = BrowserEngine(seconds=60), BrowserEngine(remote=True, seconds=60)
    try:
        for _ in range(2):
            assert walk(ours) == walk(theirs)
            assert ours.query(state) == theirs.query(state)
        assert theirs.screenshot().startswith(b"\x89PNG")
    finally:
        ours.close()
        theirs.close()
    assert alive(remote)
    assert not Browser._shared


def state(sites: object) -> object:
    assert isinstance(sites, dict)
    return {name: site.state() for name, site in sites.items()}


def test_a_browser_that_is_not_ours_keeps_its_own_pages() -> None:
    with devtools() as (endpoint, _), pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, endpoint)
        before = targets(endpoint)
        first, second = BrowserEngine(remote=True, seconds=60), BrowserEngine(remote=True, seconds=60)
        for engine in (first, second):
            engine.open(SHOP, (Place("shop"),))
        assert len(targets(endpoint)) == len(before) + 2
        first.close()
        second.close()
        wait(lambda: targets(endpoint) == before)


def targets(endpoint: str) -> set[str]:
    with httpx.Client(trust_env=False) as client:
        return {t["id"] for t in client.get(f"{endpoint}/json/list").json() if t["type"] == "page"}


def test_engines_are_spread_over_the_browsers_and_pass_by_dead_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        places = [stack.enter_context(devtools())[0] for _ in range(2)]
        dead = f"http://127.0.0.1:{free_port()}"
        monkeypatch.setenv(VARIABLE, ",".join([*places, dead]))
        engines = [BrowserEngine(remote=True, seconds=60) for _ in range(3)]
        try:
            for engine in engines:
                assert engine.open(SHOP, (Place("shop"),)).path == "/"
            used = [engine._browser.place for engine in engines if engine._browser]
            assert sorted(set(used)) == sorted(places) and len(used) == 3
        finally:
            for engine in engines:
                engine.close()


def test_a_remote_browser_that_dies_fails_one_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        first, second = stack.enter_context(devtools()), stack.enter_context(devtools())
        monkeypatch.setenv(VARIABLE, f"{first[0]},{second[0]}")
        engine = BrowserEngine(remote=True, seconds=60)
        try:
            engine.open(SHOP, (Place("shop"),))
            assert engine._browser
            pids = {first[0]: first[1], second[0]: second[1]}
            os.killpg(pids[engine._browser.place], signal.SIGKILL)
            with pytest.raises(EnvError):
                for _ in range(100):
                    engine.act(Do("Wait"))
            assert engine.open(SHOP, (Place("shop"),)).path == "/"
        finally:
            engine.close()


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("kind", ["refuses", "is silent", "hangs up", "is no browser"])
def test_an_endpoint_without_a_browser_is_a_failure_in_time(
    monkeypatch: pytest.MonkeyPatch, scheme: str, kind: str
) -> None:
    with endpoint(kind) as port:
        monkeypatch.setenv(VARIABLE, f"{scheme}://127.0.0.1:{port}")
        engine = BrowserEngine(remote=True, seconds=2)
        begin = time.monotonic()
        with pytest.raises(EnvError, match="browser"):
            engine.open(SHOP, (Place("shop"),))
        assert time.monotonic() - begin < 30
        engine.close()
        assert not Browser._shared


@contextmanager
def endpoint(kind: str) -> Iterator[int]:
    """A port behind which there is no browser."""
    if kind == "refuses":
        yield free_port()
        return
    answers = {"is silent": None, "hangs up": b"", "is no browser": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = list[socket.socket]()

        def accept() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                kept.append(connection)
                if (answer := answers[kind]) is not None:
                    connection.recv(4096)
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                connection.close()


def test_no_endpoint_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no remote browsers"):
        BrowserEngine(remote=True).open(SHOP, (Place("shop"),))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
