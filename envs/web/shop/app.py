"""The shop as a web application: server-rendered pages, forms that POST and redirect, no JavaScript."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ..engine import Receive, Scope, Send
from .data import ADDRESSES, STARS, Product, Stock
from .store import Store

_pages = Environment(
    loader=PackageLoader("turngym.envs.web.shop", "pages"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_HEADERS = {"cache-control": "no-store"}


class ShopSite:
    """One episode's shop: its database behind the application that all shops share."""

    def __init__(self, stock: Stock) -> None:
        self.store = Store(stock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["store"] = self.store
        await _app(scope, receive, send)

    def close(self) -> None:
        self.store.close()


def _store(request: Request) -> Store:
    store: Store = request.scope["store"]
    return store


def _page(request: Request, name: str, title: str, status: int = 200, **values: Any) -> Response:
    html = _pages.get_template(name).render(title=title, status=_store(request).status(), **values)
    return HTMLResponse(html, status, _HEADERS)


def _go(path: str) -> Response:
    return RedirectResponse(path, 303, _HEADERS)


def _missing(request: Request) -> Response:
    return _page(request, "missing.html", "not found", 404)


def _product(request: Request) -> Product | None:
    return _store(request).product(request.path_params["id"])


async def _field(request: Request, name: str) -> str:
    async with request.form() as form:
        value = form.get(name, "")
        return value if isinstance(value, str) else ""


async def home(request: Request) -> Response:
    return _page(request, "home.html", "shop", departments=_store(request).departments())


async def department(request: Request) -> Response:
    name = request.path_params["name"]
    products = _store(request).shelf(name)
    return _page(request, "shelf.html", name, products=products) if products else _missing(request)


async def search(request: Request) -> Response:
    products = _store(request).search(request.query_params.get("q", ""))
    return _page(request, "shelf.html", "results", products=products)


async def product(request: Request) -> Response:
    found = _product(request)
    return _page(request, "product.html", found.name, product=found) if found else _missing(request)


async def save(request: Request) -> Response:
    if not (found := _product(request)):
        return _missing(request)
    _store(request).save(found.id)
    return _go(f"/product/{found.id}")


async def review(request: Request) -> Response:
    if not (found := _product(request)):
        return _missing(request)
    if request.method == "GET":
        missing = "missing" in request.query_params
        return _page(request, "review.html", "review", product=found, choices=STARS, missing=missing)
    stars = await _field(request, "stars")
    if stars not in STARS:
        return _go(f"/product/{found.id}/review?missing=stars")
    _store(request).review(found.id, stars)
    return _go(f"/product/{found.id}")


async def cart(request: Request) -> Response:
    return _page(request, "cart.html", "cart", lines=_store(request).cart())


async def add(request: Request) -> Response:
    if not (found := _product(request)):
        return _missing(request)
    _store(request).add_to_cart(found.id)
    return _go("/cart")


async def remove(request: Request) -> Response:
    _store(request).remove_from_cart(request.path_params["line"])
    return _go("/cart")


async def checkout(request: Request) -> Response:
    store = _store(request)
    if not store.cart():
        return _go("/cart")
    if request.method == "GET":
        missing = "missing" in request.query_params
        return _page(request, "checkout.html", "order", choices=ADDRESSES, missing=missing)
    address = await _field(request, "address")
    if address not in ADDRESSES:
        return _go("/checkout?missing=address")
    store.order(address)
    return _go("/")


async def not_found(request: Request, error: Exception) -> Response:
    return _missing(request)


_app = Starlette(
    routes=[
        Route("/", home),
        Route("/department/{name}", department),
        Route("/search", search),
        Route("/product/{id:int}", product),
        Route("/product/{id:int}/add", add, methods=["POST"]),
        Route("/product/{id:int}/save", save, methods=["POST"]),
        Route("/product/{id:int}/review", review, methods=["GET", "POST"]),
        Route("/cart", cart),
        Route("/cart/{line:int}/remove", remove, methods=["POST"]),
        Route("/checkout", checkout, methods=["GET", "POST"]),
    ],
    exception_handlers={404: not_found, 405: not_found},
)
