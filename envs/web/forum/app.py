"""The forum as a web application: server-rendered pages, forms that POST and redirect, no JavaScript."""

import re

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..application import Hosted, Pages, field, go
from .data import KINDS, Talk, Topic
from .store import VISITOR, WORTH, Store

_page = Pages("turngym.envs.web.forum")
_HOST = re.compile(r"forum\.([0-9a-z]+\.localhost(?::[0-9]{1,5})?)")


class ForumSite(Hosted[Store]):
    """One episode's forum."""

    def __init__(self, talk: Talk) -> None:
        super().__init__(_app, Store(talk))


def shop_of(host: str) -> str | None:
    """The origin of the shop in the episode whose forum has this Host header; None for any other header."""
    found = _HOST.fullmatch(host)
    return f"http://shop.{found[1]}" if found else None


def _store(request: Request) -> Store:
    store: Store = request.scope["store"]
    return store


def _missing(request: Request) -> Response:
    return _page(request, "missing.html", "not found", 404)


def _topic(request: Request) -> Topic | None:
    return _store(request).topic(request.path_params["id"])


def _board(request: Request) -> str | None:
    name: str = request.path_params["name"]
    return name if name in _store(request).boards() else None


def _member(request: Request) -> str | None:
    name: str = request.path_params["name"]
    return None if _store(request).karma(name) is None else name


async def _text(request: Request, name: str) -> str:
    """What was typed, with single spaces."""
    return " ".join((await field(request, name)).split())


async def home(request: Request) -> Response:
    return _page(request, "home.html", "forum", boards=_store(request).boards())


async def board(request: Request) -> Response:
    if not (name := _board(request)):
        return _missing(request)
    store = _store(request)
    return _page(request, "board.html", name, joined=store.joined(name), titles=store.titles(name))


async def join(request: Request) -> Response:
    if not (name := _board(request)):
        return _missing(request)
    _store(request).join(name)
    return go(f"/board/{name}")


async def leave(request: Request) -> Response:
    if not (name := _board(request)):
        return _missing(request)
    _store(request).leave(name)
    return go(f"/board/{name}")


async def write(request: Request) -> Response:
    if not (name := _board(request)):
        return _missing(request)
    if request.method == "GET":
        missing = "missing" in request.query_params
        return _page(request, "write.html", "write", board=name, choices=KINDS, missing=missing)
    title, kind = await _text(request, "title"), await field(request, "kind")
    if not title or kind not in KINDS:
        return go(f"/board/{name}/write?missing={'kind' if title else 'title'}")
    _store(request).post(name, title, kind)
    return go(f"/board/{name}")


async def topic(request: Request) -> Response:
    if not (found := _topic(request)):
        return _missing(request)
    shop, missing = shop_of(request.headers.get("host", "")), "missing" in request.query_params
    return _page(request, "topic.html", found.title, topic=found, visitor=VISITOR, shop=shop, missing=missing)


async def vote(request: Request) -> Response:
    found, way = _topic(request), request.path_params["way"]
    if not found or way not in WORTH:
        return _missing(request)
    _store(request).vote(found.id, way)
    return go(f"/topic/{found.id}")


async def comment(request: Request) -> Response:
    if not (found := _topic(request)):
        return _missing(request)
    if not (text := await _text(request, "text")):
        return go(f"/topic/{found.id}?missing=comment")
    _store(request).comment(found.id, text)
    return go(f"/topic/{found.id}")


async def search(request: Request) -> Response:
    titles = _store(request).search(request.query_params.get("q", ""))
    return _page(request, "results.html", "results", titles=titles)


async def user(request: Request) -> Response:
    if not (name := _member(request)):
        return _missing(request)
    store = _store(request)
    return _page(request, "user.html", name, karma=store.karma(name), follows=store.follows(name))


async def follow(request: Request) -> Response:
    if not (name := _member(request)):
        return _missing(request)
    _store(request).follow(name)
    return go(f"/user/{name}")


async def unfollow(request: Request) -> Response:
    if not (name := _member(request)):
        return _missing(request)
    _store(request).unfollow(name)
    return go(f"/user/{name}")


async def not_found(request: Request, error: Exception) -> Response:
    return _missing(request)


_app = Starlette(
    routes=[
        Route("/", home),
        Route("/search", search),
        Route("/board/{name}", board),
        Route("/board/{name}/join", join, methods=["POST"]),
        Route("/board/{name}/leave", leave, methods=["POST"]),
        Route("/board/{name}/write", write, methods=["GET", "POST"]),
        Route("/topic/{id:int}", topic),
        Route("/topic/{id:int}/vote/{way}", vote, methods=["POST"]),
        Route("/topic/{id:int}/comment", comment, methods=["POST"]),
        Route("/user/{name}", user),
        Route("/user/{name}/follow", follow, methods=["POST"]),
        Route("/user/{name}/unfollow", unfollow, methods=["POST"]),
    ],
    exception_handlers={404: not_found, 405: not_found},
)
