"""The shop's task templates in four levels, split by template here and by data in ``words.split_of``."""

from collections.abc import Callable, Iterable

import numpy as np

from ..engine import Site
from ..task import Evaluator, StateMatch, Step, StringMatch, UrlMatch, because, click
from ..template import Draft, Job, Template
from ..words import Split
from .data import ADDRESSES, STARS, Product, Stock, grow
from .store import State

SHOP = "shop"


def site(stock: Stock) -> Callable[[], Site]:
    """What makes the shop's site."""

    def make() -> Site:
        from .app import ShopSite  # here, so that importing the environments needs no extra

        return ShopSite(stock)

    return make


def ends(state: State) -> StateMatch:
    """The shop ends in this state and no other."""
    return StateMatch(SHOP, state)


def pick(stock: Stock, rng: np.random.Generator, count: int = 1) -> list[Product]:
    """``count`` products, each of another department."""
    departments = [stock.departments[i] for i in rng.permutation(len(stock.departments))[:count]]
    shelves = [[p for p in stock.products if p.department == d] for d in departments]
    return [shelf[int(rng.integers(len(shelf)))] for shelf in shelves]


def one_of(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def fill(products: Iterable[Product]) -> tuple[Step, ...]:
    """Put each product in the cart, starting at home and ending at the cart."""
    ways = [because(f"need {p.name}", *click("home"), *_walk(p), *click("add item")) for p in products]
    return tuple(step for way in ways for step in way)[1:]


def named(products: Iterable[Product]) -> str:
    return " and ".join(f"{p.name} from {p.department}" for p in products)


def ids(products: Iterable[Product]) -> tuple[int, ...]:
    return tuple(sorted(p.id for p in products))


def pay(address: str) -> tuple[Step, ...]:
    """Order what the cart holds, starting at the cart."""
    choose = Step("Select Dropdown Option", "address", address)
    return because(f"order to {address}", *click("check out"), choose, *click("place order"))


def _walk(product: Product) -> tuple[Step, ...]:
    return because(f"need {product.name}", *click(product.department, product.name))


def _search(product: Product) -> tuple[Step, ...]:
    return because(f"search {product.name}", Step("Search", "search box", product.name), *click(product.name))


def _rate(stars: str) -> tuple[Step, ...]:
    choose = Step("Select Dropdown Option", "stars", stars)
    return because(f"review with {stars}", *click("write review"), choose, *click("send review"))


def _price(goal: str, product: Product, gold: tuple[Step, ...], start: str = "/") -> Job:
    price = str(product.price)
    return Job(goal, gold, (StringMatch(price), ends(State())), start, price)


def open_product(stock: Stock, rng: np.random.Generator) -> Job:
    (p,) = pick(stock, rng)
    evaluators: tuple[Evaluator, ...] = (UrlMatch(SHOP, f"/product/{p.id}"), ends(State()))
    return Job(f"open {p.name}", _walk(p)[1:], evaluators, f"/department/{p.department}")


def read_price(stock: Stock, rng: np.random.Generator) -> Job:
    (p,) = pick(stock, rng)
    return _price(f"tell the price of {p.name}", p, _walk(p)[1:], f"/department/{p.department}")


def search_price(stock: Stock, rng: np.random.Generator) -> Job:
    (p,) = pick(stock, rng)
    return _price(f"search {p.name} and tell the price", p, _search(p))


def walk_price(stock: Stock, rng: np.random.Generator) -> Job:
    (p,) = pick(stock, rng)
    return _price(f"tell the price of {p.name} from {p.department}", p, _walk(p))


def save_one(stock: Stock, rng: np.random.Generator) -> Job:
    (p,) = pick(stock, rng)
    gold = _walk(p) + because(f"save {p.name}", *click("save item"))
    return Job(f"save {named([p])}", gold, (ends(State(saved=(p.id,))),))


def search_add(stock: Stock, rng: np.random.Generator) -> Job:
    (p,) = pick(stock, rng)
    gold = _search(p) + because(f"need {p.name}", *click("add item"))
    return Job(f"search {p.name} and put in cart", gold, (ends(State(cart=(p.id,))),))


def review_one(stock: Stock, rng: np.random.Generator) -> Job:
    (p,), stars = pick(stock, rng), one_of(STARS, rng)
    state = State(reviews=((p.id, stars),))
    return Job(f"review {named([p])} with {stars} stars", _walk(p) + _rate(stars), (ends(state),))


def search_review(stock: Stock, rng: np.random.Generator) -> Job:
    (p,), stars = pick(stock, rng), one_of(STARS, rng)
    state = State(reviews=((p.id, stars),))
    return Job(f"search {p.name} and review with {stars} stars", _search(p) + _rate(stars), (ends(state),))


def add(products: list[Product]) -> Job:
    """The products in the cart and nothing else."""
    return Job(f"put {named(products)} in cart", fill(products), (ends(State(cart=ids(products))),))


def order(products: list[Product], address: str) -> Job:
    """The products ordered at once to the address."""
    state = State(orders=((address, ids(products)),))
    return Job(f"order {named(products)} to {address}", fill(products) + pay(address), (ends(state),))


def _template(name: str, level: int, split: Split, make: Callable[[Stock, np.random.Generator], Job]) -> Template:
    def draft(rng: np.random.Generator, data: Split) -> Draft:
        stock = grow(rng, data)
        return Draft(make(stock, rng), {SHOP: site(stock)})

    return Template(name, level, split, draft)


TEMPLATES: tuple[Template, ...] = (
    _template("open_product", 1, "train", open_product),
    _template("read_price", 1, "train", read_price),
    _template("search_price", 2, "train", search_price),
    _template("add_one", 2, "train", lambda stock, rng: add(pick(stock, rng))),
    _template("save_one", 2, "validation", save_one),
    _template("walk_price", 2, "validation", walk_price),
    _template("search_add", 2, "test", search_add),
    _template("review_one", 3, "train", review_one),
    _template("order_one", 3, "train", lambda stock, rng: order(pick(stock, rng), one_of(ADDRESSES, rng))),
    _template("add_two", 3, "train", lambda stock, rng: add(pick(stock, rng, 2))),
    _template("search_review", 3, "test", search_review),
    _template("order_two", 4, "train", lambda stock, rng: order(pick(stock, rng, 2), one_of(ADDRESSES, rng))),
    _template("add_three", 4, "train", lambda stock, rng: add(pick(stock, rng, 3))),
)
