"""The embedded sites for people and for other agents: ``turngym sites`` serves ``http://SITE.SEED.localhost:PORT``."""

import re
from collections import OrderedDict
from collections.abc import Callable
from html import escape

import numpy as np
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from ..serving import listen, run, spoken
from .engine import Receive, Scope, Send, Site
from .forum.app import ForumSite
from .forum.data import grow as grow_forum
from .shop.app import ShopSite
from .shop.data import Stock
from .shop.data import grow as grow_shop
from .words import Split

KEPT = 64  # seeds whose sites are kept, those asked for most recently
_SHOWN = 5  # seeds on the page that lists the sites
_NAME = re.compile(r"([a-z]+)\.(0|[1-9][0-9]{0,17})\.localhost")
_HOMES = ("localhost", "127.0.0.1", "[::1]")
_PAGE = "<!doctype html><html lang=en><title>{title}</title><h1>{title}</h1>{body}</html>"


def _stock(seed: int, split: Split) -> Stock:
    return grow_shop(np.random.default_rng((seed, 0)), split)


def _shop(seed: int, split: Split) -> Site:
    return ShopSite(_stock(seed, split))


def _forum(seed: int, split: Split) -> Site:
    products = [(product.id, product.name) for product in _stock(seed, split).products]  # it talks of its shop's things
    return ForumSite(grow_forum(np.random.default_rng((seed, 1)), split, products))


SITES: dict[str, Callable[[int, Split], Site]] = {"shop": _shop, "forum": _forum}


class _Kept:
    """A site and how many requests it answers at present: a site must not be closed under one."""

    def __init__(self, site: Site) -> None:
        self.site, self.busy, self.dropped = site, 0, False

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.busy += 1
        try:
            await self.site(scope, receive, send)
        finally:
            self.busy -= 1
            self._close()

    def drop(self) -> None:
        """Close it, now or after the last answer."""
        self.dropped = True
        self._close()

    def _close(self) -> None:
        if self.dropped and not self.busy:
            self.site.close()


class Gallery:
    """An ASGI application of many sites, told apart by the Host header; one thread makes, asks and closes them.

    ``http://SITE.SEED.localhost`` is the site grown from that seed, made when it is first asked for; sites of one
    seed belong together. ``POST /-/reset`` there makes it anew, ``/-/health`` anywhere says ok, and
    ``http://localhost`` lists the sites.
    """

    def __init__(self, split: Split = "test", *, kept: int = KEPT) -> None:
        self.split, self.kept = split, kept
        self._seeds: OrderedDict[int, dict[str, _Kept]] = OrderedDict()  # the least recently used comes first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, port = _host(scope)
        found = _NAME.fullmatch(name)
        if scope["path"] == "/-/health":
            await PlainTextResponse("ok")(scope, receive, send)
        elif found and found[1] in SITES:
            await self._visit(found[1], int(found[2]), scope, receive, send)
        elif name in _HOMES and scope["path"] == "/":
            await _index(port)(scope, receive, send)
        else:
            await _missing(port)(scope, receive, send)

    def close(self) -> None:
        """Close all sites; those asked for later are new."""
        while self._seeds:
            self._forget()

    async def _visit(self, site: str, seed: int, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/-/reset":
            await self._site(site, seed).answer(scope, receive, send)
        elif scope["method"] != "POST":
            await PlainTextResponse("POST resets", 405, {"allow": "POST"})(scope, receive, send)
        else:
            old = self._seeds.get(seed, {}).pop(site, None)
            if old:
                old.drop()
            await PlainTextResponse("ok")(scope, receive, send)

    def _site(self, site: str, seed: int) -> _Kept:
        sites = self._seeds.setdefault(seed, {})
        self._seeds.move_to_end(seed)
        while len(self._seeds) > self.kept:
            self._forget()
        if site not in sites:
            sites[site] = _Kept(SITES[site](seed, self.split))
        return sites[site]

    def _forget(self) -> None:
        """Close the sites of the seed that nobody asked for in the longest time."""
        _, sites = self._seeds.popitem(last=False)
        for kept in sites.values():
            kept.drop()


def serve(host: str, port: int, split: Split, say: Callable[[str], None]) -> None:
    """Serve until SIGINT; ``say`` gets the address, port 0 is one of the system's choice.

    Raises UsageError when the address cannot be had.
    """
    listener = listen(host, port)
    own = listener.getsockname()[1]
    gallery = Gallery(split)
    with listener:
        say(
            f"sites at http://localhost:{own}/, such as http://{next(iter(SITES))}.0.localhost:{own}/; Ctrl-C ends them"
        )
        try:
            run(spoken(gallery, timeout_graceful_shutdown=1), listener)
        finally:
            gallery.close()


def _host(scope: Scope) -> tuple[str, str]:
    """The Host header's name in small letters and its port with a colon, empty where there is none."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    found = re.fullmatch(r"(\[[0-9a-f:.]*\]|[^:\[\]]*)(:[0-9]{1,5})?", host)
    return (found[1].removesuffix("."), found[2] or "") if found else ("", "")


def _index(port: str) -> Response:
    rows = "".join(
        "<li>" + " ".join(f'<a href="http://{site}.{seed}.localhost{port}/">{site} {seed}</a>' for site in SITES)
        for seed in range(_SHOWN)
    )
    how = "Any other number makes another world. POST /-/reset on a site makes it anew."
    return HTMLResponse(_PAGE.format(title="sites", body=f"<ul>{rows}</ul><p>{how}</p>"))


def _missing(port: str) -> Response:
    known = ", ".join(f"{site}.SEED.localhost" for site in SITES)
    body = f'<p>Here are {escape(known)} and <a href="http://localhost{port}/">their list</a>.</p>'
    return HTMLResponse(_PAGE.format(title="no such site", body=body), 404)
