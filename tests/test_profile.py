"""Nothing of an episode is left to the next in the same context, and nothing leaves the lane."""

from collections.abc import Iterator

import pytest

from turngym.envs.web.browser_engine import BrowserEngine
from turngym.envs.web.engine import Place, Receive, Scope, Send
from turngym.envs.web.grammar import Do
from turngym.envs.web.page import Element, Page

HTML = """<!doctype html><title>start</title><body>
<button onclick="leave()">leave</button><button onclick="find()">find</button><button onclick="spy()">spy</button>
<div style="height: 100px" onmouseover="window.over = true"></div>
<script>
  const token = location.host.split(".")[1];
  async function leave() {
    for (const domain of ["", `; domain=${token}.localhost`, "; domain=localhost", "; domain=.localhost"])
      document.cookie = `left${domain.length}=1; path=/; max-age=1000${domain}`;
    localStorage.left = sessionStorage.left = "1";
    await new Promise((done) => {
      const ask = indexedDB.open("left", 1);
      ask.onupgradeneeded = () => ask.result.createObjectStore("left");
      ask.onsuccess = done;
    });
    await (await caches.open("left")).put("/left", new Response("left"));
    await navigator.serviceWorker.register("/worker.js").catch(() => 0);
    const worker = (await navigator.serviceWorker.getRegistrations()).length;
    window.name = "left";
    history.pushState({}, "", "/pushed");
    new Worker("/worker.js");
    new BroadcastChannel("left").postMessage("left");
    setInterval(() => fetch("/beat", { cache: "no-store" }), 20);
    document.title = `left ${worker} ${document.cookie.split(";").length}`;
  }
  async function find() {
    const found = [];
    if (document.cookie) found.push(document.cookie);
    if (localStorage.length || sessionStorage.length) found.push("storage");
    if ((await indexedDB.databases()).length) found.push("database");
    if ((await caches.keys()).length) found.push("cache");
    if (window.name) found.push("name");
    if (history.length > 1) found.push("history");
    if (window.over) found.push("pointer");
    if (document.referrer) found.push("referrer");
    if (window.opener) found.push("opener");
    document.title = "found " + found.join(" ");
  }
  async function spy() {
    const others = JSON.parse(document.body.dataset.others);
    const reached = [];
    for (const url of others) {
      await fetch(url, { signal: AbortSignal.timeout(2000) }).then(() => reached.push(url), () => 0);
      await new Promise((done) => {
        const image = new Image();
        image.onload = () => done(reached.push("image " + url));
        image.onerror = done;
        image.src = url;
      });
    }
    await new Promise((done) => {
      const socket = new WebSocket("ws://example.com/");
      socket.onopen = () => done(reached.push("socket"));
      socket.onerror = done;
    });
    const peer = new RTCPeerConnection({ iceServers: [{ urls: "stun:127.0.0.1:3478" }] });
    peer.createDataChannel("x");
    await peer.setLocalDescription(await peer.createOffer());
    await new Promise((done) => setTimeout(done, 300));
    if (peer.localDescription.sdp.includes("a=candidate")) reached.push("candidate");
    document.title = "reached " + reached.join(" ");
  }
</script>"""


class Prober:
    """A site whose page leaves behind what it can, and looks for what it finds; it notes what reaches it."""

    def __init__(self, others: tuple[str, ...] = ()) -> None:
        self.others, self.seen = others, list[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cookie = dict(scope["headers"]).get(b"cookie", b"").decode()
        self.seen.append(f"{scope['path']} {cookie}".strip())
        script = scope["path"] == "/worker.js"
        others = str(list(self.others)).replace("'", '"')
        html = HTML.replace("<body>", f"<body data-others='{others}'>")
        body = "setInterval(() => fetch('/beat', {cache: 'no-store'}), 20)" if script else html
        kind = b"text/javascript" if script else b"text/html"
        headers = [(b"content-type", kind), (b"cache-control", b"max-age=1000")]
        headers += [(b"set-cookie", b"served=1; path=/; max-age=1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})

    def state(self) -> list[str]:
        return self.seen

    def close(self) -> None:
        pass


SITES, HOME = {"prober": Prober}, (Place("prober"),)


@pytest.fixture(scope="module")
def engine() -> Iterator[BrowserEngine]:
    engine = BrowserEngine(seconds=60)
    yield engine
    engine.close()


def named(page: Page, text: str) -> Element:
    return next(e for e in page.elements if e.text == text)


def press(engine: BrowserEngine, text: str, until: str) -> Page:
    """Click, and wait until the page's script has set the title to what begins with ``until``."""
    page = engine.act(Do("Click", element=named(engine.act(Do("Scroll Up")), text).id))
    for _ in range(100):
        if page.title.startswith(until):
            return page
        page = engine.act(Do("Wait"))
    raise AssertionError(page.title)


def test_an_episode_finds_nothing_of_the_one_before(engine: BrowserEngine) -> None:
    engine.open(SITES, HOME)
    context = engine._profile
    engine.act(Do("Hover", element=1))
    # its own cookie, that of its token and the server's; none for all of localhost; and no service worker
    assert press(engine, "leave", "left").title == "left 0 3"
    engine.open(SITES, HOME)
    assert engine._profile is context  # the very same
    assert press(engine, "find", "found").title == "found served=1"
    assert engine.query(lambda sites: sites["prober"].state()) == ["/"]  # neither cookies nor beats
    assert engine.refused == 0


def test_an_episode_finds_nothing_of_another_engine_or_of_a_closed_one(engine: BrowserEngine) -> None:
    engine.open(SITES, HOME)
    other = BrowserEngine(seconds=60)
    try:
        other.open(SITES, HOME)
        used = other._profile
        press(other, "leave", "left")
        assert press(engine, "find", "found").title == "found served=1"
    finally:
        other.close()
    last = BrowserEngine(seconds=60)
    try:
        last.open(SITES, HOME)
        assert last._profile is used  # the one that was given back
        assert press(last, "find", "found").title == "found served=1"
        assert last.query(lambda sites: sites["prober"].state()) == ["/"]
    finally:
        last.close()


def test_no_tab_finds_anything_of_an_episode_before(engine: BrowserEngine) -> None:
    places = (Place("prober"), Place("prober", "/second"), Place("prober", "/third"))
    for _ in range(2):
        engine.open(SITES, places)
        for i in range(3):
            engine.act(Do("Switch Tab", str(i)))
            assert press(engine, "find", "found").title == "found served=1"
        engine.act(Do("Switch Tab", "1"))
        press(engine, "leave", "left")


def test_a_tab_that_the_next_episode_does_not_need_is_stilled(engine: BrowserEngine) -> None:
    engine.open(SITES, (Place("prober"), Place("prober", "/second")))
    engine.act(Do("Switch Tab", "1"))
    press(engine, "leave", "left")
    for _ in range(2):
        engine.open(SITES, HOME)
        engine.act(Do("Wait"))
        assert engine.refused == 0
        assert engine.query(lambda sites: sites["prober"].state()) == ["/"]


def test_storage_does_not_pile_up(engine: BrowserEngine) -> None:
    for _ in range(2):
        engine.open(SITES, HOME)
        press(engine, "leave", "left")
    engine.open(SITES, HOME)
    assert engine._profile and engine._browser
    context = engine._profile._context
    kept = engine._browser.run(context.cookies(), 60)
    assert [(c.get("name"), c.get("domain")) for c in kept] == [("served", engine_host(engine))]


def engine_host(engine: BrowserEngine) -> str:
    assert engine._profile
    (origin,) = engine._profile._sites
    return origin.removeprefix("http://")


def test_a_page_reaches_nothing_but_its_own_sites(engine: BrowserEngine) -> None:
    other = BrowserEngine(seconds=60)
    other.open(SITES, HOME)
    try:
        assert other._profile
        (foreign,) = other._profile._sites
        port = other._profile.lane.port
        outside = (
            foreign + "/",
            f"{foreign}:{port}/",
            f"http://127.0.0.1:{port}/",
            f"http://localhost:{port}/",
            "http://example.com/",
            "https://example.com/",
            "http://[::1]/",
            "http://169.254.169.254/",
        )
        engine.open({"prober": lambda: Prober(outside)}, HOME)
        assert press(engine, "spy", "reached").title == "reached"
        assert engine.refused == 2 * len(outside) + 1  # the last is the WebSocket's
        assert other.query(lambda sites: sites["prober"].state()) == ["/"]
        assert other.refused == 0
        assert {path for path in engine.query(lambda sites: sites["prober"].state())} == {"/"}
        engine.open(SITES, HOME)
        assert engine.refused == 0
    finally:
        other.close()


def test_a_context_is_used_for_a_number_of_episodes_only(
    monkeypatch: pytest.MonkeyPatch, engine: BrowserEngine
) -> None:
    monkeypatch.setattr("turngym.envs.web.profile._WORN", 3)
    engine.close()
    used = []
    for _ in range(7):
        engine.open(SITES, HOME)
        used.append(engine._profile)
    assert [used.index(profile) for profile in used] == [0, 0, 0, 3, 3, 3, 6]
