"""What hostile pages, dead pages and dead browsers cost: one failure each, in time, and nothing that stays."""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from processes import alive, children, command, files, wait

from turngym.envs.errors import EnvError
from turngym.envs.web.browser import HEADLESS, Browser
from turngym.envs.web.browser_engine import BrowserEngine
from turngym.envs.web.effects import Noted
from turngym.envs.web.engine import Place, Receive, Scope, Send
from turngym.envs.web.frame import DIALOG, WINDOW
from turngym.envs.web.grammar import Do
from turngym.envs.web.page import Page

LONG = 60.0  # seconds: what is not meant to fail may take so long on a busy machine

PAGES = {
    "/": "",
    "/next": "",
    "/loop": "<script>for (;;);</script>",
    "/reload": "<script>location.reload()</script>",
    "/ping": "<script>location.href = '/pong'</script>",
    "/pong": "<script>location.href = '/ping'</script>",
    "/refresh": "<meta http-equiv=refresh content='0; /refresh'>",
    "/windows": "<script>for (let i = 0; i < 500; i++) window.open('/')</script>",
    "/dialogs": "<script>for (let i = 0; i < 500; i++) alert(i) || confirm(i) || prompt(i)</script>",
    "/leave": "<script>addEventListener('beforeunload', (event) => event.preventDefault())</script>",
    "/shout": "<script>for (let i = 0; i < 500; i++) console.log('x'.repeat(100))</script>",
    "/heap": "<script>const a = []; for (;;) a.push(new Array(1e5).fill({}))</script>",
    "/buffers": "<script>const a = []; for (;;) a.push(new Uint8Array(1e8).fill(1))</script>",
    "/later": "<script>setTimeout(() => { for (;;); }, 100)</script>",
    "/frames": "<iframe srcdoc='<a href=/next target=_top>x</a><script>open(`/`)</script>'></iframe>",
}
BUTTONS = "".join(f"<a href='{path}'>{path}</a>" for path in (*PAGES, "/stream", "/slow", "/redirect"))


class Hostile:
    """A site with every page that nobody wants."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, headers = scope["path"], [(b"content-type", b"text/html")]
        status = 302 if path == "/redirect" else 200
        if status == 302:
            headers.append((b"location", b"/redirect"))
        if path == "/slow":
            await self.closed.wait()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        words = f"<!doctype html><title>{path}</title><body>{PAGES.get(path, '')}{BUTTONS}".encode()
        while path == "/stream":
            await send({"type": "http.response.body", "body": b"<p>more</p>" * 100, "more_body": True})
        await send({"type": "http.response.body", "body": words})

    def state(self) -> None:
        return None

    def close(self) -> None:
        self.closed.set()


SITES = {"hostile": Hostile}


def start(engine: BrowserEngine, path: str = "/") -> Page:
    return engine.open(SITES, (Place("hostile", path),))


def click(engine: BrowserEngine, text: str) -> Page:
    page = engine.act(Do("Scroll Up"))
    return engine.act(Do("Click", element=next(e.id for e in page.elements if e.text == text)))


@pytest.fixture(scope="module")
def shared() -> Iterator[BrowserEngine]:
    engine = BrowserEngine(seconds=LONG)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: BrowserEngine) -> Iterator[BrowserEngine]:
    """Opened; after each test it opens again, and as many processes, files and contexts are left as before."""
    start(shared)
    before = left(shared)
    yield shared
    shared.seconds = LONG
    assert start(shared).path == "/"
    wait(lambda: left(shared) <= before, lambda: f"{left(shared)}, not {before}")


@pytest.mark.parametrize("path", ["/loop", "/stream", "/slow", "/heap", "/buffers", "/redirect"])
def test_pages_that_fail_their_episode(engine: BrowserEngine, path: str) -> None:
    begin = time.monotonic()
    engine.seconds = 1
    with pytest.raises(EnvError):
        click(engine, path)
    with pytest.raises(EnvError, match="no page is open"):
        engine.act(Do("Wait"))
    with pytest.raises(EnvError):
        start(engine, path)
    assert time.monotonic() - begin < LONG  # two deadlines of 1 s, on slow machines


@pytest.mark.parametrize("path", ["/reload", "/ping", "/refresh"])
def test_pages_that_replace_themselves_for_ever(engine: BrowserEngine, path: str) -> None:
    """Either a page or a failure, in time."""
    engine.seconds = 2
    try:
        assert click(engine, path).path in (path, "/pong")
    except EnvError as error:
        assert any(words in str(error) for words in ("replaced itself", "moved on", "did not answer"))


@pytest.mark.parametrize(("path", "error"), [("/windows", WINDOW), ("/dialogs", DIALOG), ("/frames", WINDOW)])
def test_pages_that_ask_for_what_they_may_not_do(engine: BrowserEngine, path: str, error: str) -> None:
    with pytest.raises(Noted, match=error) as raised:
        click(engine, path)
    assert raised.value.page.path == path
    assert click(engine, "/").path == "/"
    assert start(engine, path).path == path  # an opening has no action to blame


@pytest.mark.parametrize("path", ["/leave", "/shout"])
def test_pages_that_make_no_difference(engine: BrowserEngine, path: str) -> None:
    assert click(engine, path).path == path
    assert click(engine, "/").path == "/"
    assert start(engine, path).path == path


def test_a_page_that_hangs_when_its_episode_is_over_costs_nothing(
    engine: BrowserEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turngym.envs.web.browser_engine._HANG", 1.0)
    assert click(engine, "/later").path == "/later"
    time.sleep(0.3)
    assert start(engine).path == "/"


def test_a_crashed_page_fails_its_episode_only(engine: BrowserEngine) -> None:
    other = BrowserEngine(seconds=LONG)
    start(other)
    try:
        assert engine._profile and engine._browser
        crash = engine._profile._tabs[0].frame.send("Page.crash")
        with pytest.raises(EnvError, match="crashed"):
            engine._browser.run(engine._profile.guard(crash), 10)
        with pytest.raises(EnvError):
            engine.act(Do("Wait"))
        assert click(other, "/next").path == "/next"
    finally:
        other.close()


def test_a_killed_renderer_between_episodes_costs_nothing(engine: BrowserEngine) -> None:
    for pid in renderers(engine):
        os.kill(pid, signal.SIGKILL)
    wait(lambda: not engine._profile or not engine._profile.sound)
    assert start(engine).path == "/"


def test_the_processes_of_two_engines_are_their_own(engine: BrowserEngine) -> None:
    other = BrowserEngine(seconds=LONG)
    start(other)
    try:
        engine.seconds = 1
        with pytest.raises(EnvError):
            click(engine, "/loop")
        assert click(other, "/next").path == "/next"  # meanwhile
    finally:
        other.close()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_frozen_browser_is_replaced(
    engine: BrowserEngine, blow: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turngym.envs.web.browser._BURIAL", 1.0)
    assert engine._browser
    old = engine._browser
    engine.seconds = 1
    os.kill(old._pid, blow)
    with pytest.raises(EnvError):
        for _ in range(100):  # until the news arrives
            click(engine, "/next")
    wait(lambda: not old.alive)
    engine.seconds = LONG
    assert start(engine).path == "/"
    assert engine._browser is not old
    wait(lambda: not alive(old._pid))


def test_a_dead_driver_is_replaced(engine: BrowserEngine, caplog: pytest.LogCaptureFixture) -> None:
    assert engine._browser
    old, pid = engine._browser, engine._browser._pid
    (driver,) = (p for p in children() if "run-driver" in command(p))
    engine.seconds = 2
    os.kill(driver, signal.SIGKILL)
    with pytest.raises(EnvError):
        for _ in range(100):
            click(engine, "/next")
    engine.seconds = LONG
    assert start(engine).path == "/"
    assert engine._browser is not old
    wait(lambda: not alive(pid))
    del old
    gc.collect()  # asyncio complains of what nobody asked for when it is collected
    assert not caplog.records


def test_closing_leaves_nothing(shared: BrowserEngine) -> None:
    shared.close()
    assert not Browser._shared
    before = children()
    engines = [BrowserEngine(seconds=LONG) for _ in range(3)]
    for engine in engines:
        start(engine)
    assert engines[0]._browser
    pid = engines[0]._browser._pid
    with pytest.raises(EnvError):
        engines[0].seconds = 1
        click(engines[0], "/loop")
    assert alive(pid)
    for engine in engines:
        engine.close()
    assert not alive(pid)
    assert "turngym-browser" not in [thread.name for thread in threading.enumerate()]
    wait(lambda: children() <= before)


def test_the_end_of_many_at_once_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Contexts that are still being put away are not: asyncio would complain of writing to a driver that has ended."""
    engines = [BrowserEngine(seconds=LONG) for _ in range(6)]
    for engine in engines:
        engine.open(SITES, (Place("hostile", "/"),) * 4)
    for engine in engines:
        engine.close()
    assert not Browser._shared and not caplog.records


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_a_browser_of_its_own(engine: BrowserEngine) -> None:
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if start(engine).path == "/" else 2
            engine.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert click(engine, "/next").path == "/next"


def test_work_that_is_cut_off_is_a_failure() -> None:
    browser = Browser(HEADLESS)
    with pytest.raises(EnvError, match=r"did not answer in 0.1 s"):
        browser.run(asyncio.sleep(10), 0.1)
    waiting = threading.Timer(0.2, browser.close)
    waiting.start()
    with pytest.raises(EnvError, match="closed"):
        browser.run(asyncio.sleep(30), 20)
    waiting.join()
    with pytest.raises(EnvError, match="the browser is closed"):
        browser.run(asyncio.sleep(0), 1)


def left(engine: BrowserEngine) -> tuple[int, int, int]:
    """Processes below this one, its open files, and the browser's contexts."""
    assert engine._browser
    contexts = len(engine._browser.chromium.contexts)
    return len(children()), files(), contexts


def renderers(engine: BrowserEngine) -> list[int]:
    assert engine._browser
    return [pid for pid in children(engine._browser._pid) if "--type=renderer" in command(pid)]
