"""The shop as a web application: server-rendered pages, forms that POST and redirect, no JavaScript."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..application import Hosted, Pages, field, go
from .data import ADDRESSES, STARS, Product, Stock
from .store import Store

_page = Pages("turngym.envs.web.shop")


class ShopSite(Hosted[Store]):
    """One episode's shop."""

    def __init__(self, stock: Stock) -> None:
        super().__init__(_app, Store(stock))


def _store(request: Request) -> Store:
    store: Store = request.scope["store"]
    return store


def _missing(request: Request) -> Response:
    return _page(request, "missing.html", "not found", 404)


def _product(request: Request) -> Product | None:
    return _store(request).product(request.path_params["id"])


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
    return go(f"/product/{found.id}")


async def review(request: Request) -> Response:
    if not (found := _product(request)):
        return _missing(request)
    if request.method == "GET":
        missing = "missing" in request.query_params
        return _page(request, "review.html", "review", product=found, choices=STARS, missing=missing)
    stars = await field(request, "stars")
    if stars not in STARS:
        return go(f"/product/{found.id}/review?missing=stars")
    _store(request).review(found.id, stars)
    return go(f"/product/{found.id}")


async def cart(request: Request) -> Response:
    return _page(request, "cart.html", "cart", lines=_store(request).cart())


async def add(request: Request) -> Response:
    if not (found := _product(request)):
        return _missing(request)
    _store(request).add_to_cart(found.id)
    return go("/cart")


async def remove(request: Request) -> Response:
    _store(request).remove_from_cart(request.path_params["line"])
    return go("/cart")


async def checkout(request: Request) -> Response:
    store = _store(request)
    if not store.cart():
        return go("/cart")
    if request.method == "GET":
        missing = "missing" in request.query_params
        return _page(request, "checkout.html", "order", choices=ADDRESSES, missing=missing)
    address = await field(request, "address")
    if address not in ADDRESSES:
        return go("/checkout?missing=address")
    store.order(address)
    return go("/")


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
