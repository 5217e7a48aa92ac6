"""The shop's task templates in four levels, split by template here and by data in ``data.split_of``."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ...errors import UsageError
from ..task import Evaluator, StateMatch, Step, StringMatch, Task, UrlMatch
from .data import ADDRESSES, STARS, Product, Split, Stock
from .store import State


@dataclass(frozen=True, slots=True)
class Template:
    """``make(stock, rng)`` drafts a task; templates of split "train" are seen in training, the others never."""

    name: str
    level: int
    split: Split
    make: Callable[[Stock, np.random.Generator], "Draft"]

    def task(self, stock: Stock, rng: np.random.Generator) -> Task:
        draft = self.make(stock, rng)
        gold = (*draft.gold, Step("exit", argument=draft.answer))
        return Task(self.name, self.level, draft.goal, draft.start, draft.evaluators, gold)


@dataclass(frozen=True, slots=True)
class Draft:
    """A task before it has its name; ``gold`` leaves out the exit, whose message is ``answer``."""

    goal: str
    gold: tuple[Step, ...]
    evaluators: tuple[Evaluator, ...]
    start: str = "/"
    answer: str = "done"


def _pick(stock: Stock, rng: np.random.Generator, count: int = 1) -> list[Product]:
    """``count`` products, each of another department."""
    departments = [stock.departments[i] for i in rng.permutation(len(stock.departments))[:count]]
    shelves = [[p for p in stock.products if p.department == d] for d in departments]
    return [shelf[int(rng.integers(len(shelf)))] for shelf in shelves]


def _one_of(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _click(*texts: str) -> tuple[Step, ...]:
    return tuple(Step("Click", text) for text in texts)


def _search(product: Product) -> tuple[Step, ...]:
    return (Step("Search", "search box", product.name), *_click(product.name))


def _walk(product: Product) -> tuple[Step, ...]:
    return _click(product.department, product.name)


def _fill(products: Iterable[Product]) -> tuple[Step, ...]:
    """Put each product in the cart, starting at home and ending at the cart."""
    ways = [_walk(p) + _click("add item") for p in products]
    return ways[0] + tuple(step for way in ways[1:] for step in (*_click("home"), *way))


def _named(products: Iterable[Product]) -> str:
    return " and ".join(f"{p.name} from {p.department}" for p in products)


def _ids(products: Iterable[Product]) -> tuple[int, ...]:
    return tuple(sorted(p.id for p in products))


def _pay(address: str) -> tuple[Step, ...]:
    choose = Step("Select Dropdown Option", "address", address)
    return (*_click("check out"), choose, *_click("place order"))


def _rate(stars: str) -> tuple[Step, ...]:
    choose = Step("Select Dropdown Option", "stars", stars)
    return (*_click("write review"), choose, *_click("send review"))


def _price(goal: str, product: Product, gold: tuple[Step, ...], start: str = "/") -> Draft:
    price = str(product.price)
    return Draft(goal, gold, (StringMatch(price), StateMatch(State())), start, price)


def open_product(stock: Stock, rng: np.random.Generator) -> Draft:
    (p,) = _pick(stock, rng)
    evaluators = (UrlMatch(f"/product/{p.id}"), StateMatch(State()))
    return Draft(f"open {p.name}", _click(p.name), evaluators, f"/department/{p.department}")


def read_price(stock: Stock, rng: np.random.Generator) -> Draft:
    (p,) = _pick(stock, rng)
    return _price(f"tell the price of {p.name}", p, _click(p.name), f"/department/{p.department}")


def search_price(stock: Stock, rng: np.random.Generator) -> Draft:
    (p,) = _pick(stock, rng)
    return _price(f"search {p.name} and tell the price", p, _search(p))


def walk_price(stock: Stock, rng: np.random.Generator) -> Draft:
    (p,) = _pick(stock, rng)
    return _price(f"tell the price of {p.name} from {p.department}", p, _walk(p))


def add_one(stock: Stock, rng: np.random.Generator) -> Draft:
    (p,) = _pick(stock, rng)
    return Draft(f"put {_named([p])} in cart", _fill([p]), (StateMatch(State(cart=(p.id,))),))


def save_one(stock: Stock, rng: np.random.Generator) -> Draft:
    (p,) = _pick(stock, rng)
    gold = _walk(p) + _click("save item")
    return Draft(f"save {_named([p])}", gold, (StateMatch(State(saved=(p.id,))),))


def search_add(stock: Stock, rng: np.random.Generator) -> Draft:
    (p,) = _pick(stock, rng)
    gold = _search(p) + _click("add item")
    return Draft(f"search {p.name} and put in cart", gold, (StateMatch(State(cart=(p.id,))),))


def review_one(stock: Stock, rng: np.random.Generator) -> Draft:
    (p,), stars = _pick(stock, rng), _one_of(STARS, rng)
    state = State(reviews=((p.id, stars),))
    return Draft(f"review {_named([p])} with {stars} stars", _walk(p) + _rate(stars), (StateMatch(state),))


def search_review(stock: Stock, rng: np.random.Generator) -> Draft:
    (p,), stars = _pick(stock, rng), _one_of(STARS, rng)
    state = State(reviews=((p.id, stars),))
    goal = f"search {p.name} and review with {stars} stars"
    return Draft(goal, _search(p) + _rate(stars), (StateMatch(state),))


def _add(count: int) -> Callable[[Stock, np.random.Generator], Draft]:
    def make(stock: Stock, rng: np.random.Generator) -> Draft:
        products = _pick(stock, rng, count)
        state = State(cart=_ids(products))
        return Draft(f"put {_named(products)} in cart", _fill(products), (StateMatch(state),))

    return make


def _order(count: int) -> Callable[[Stock, np.random.Generator], Draft]:
    def make(stock: Stock, rng: np.random.Generator) -> Draft:
        products, address = _pick(stock, rng, count), _one_of(ADDRESSES, rng)
        state = State(orders=((address, _ids(products)),))
        gold = _fill(products) + _pay(address)
        return Draft(f"order {_named(products)} to {address}", gold, (StateMatch(state),))

    return make


TEMPLATES: tuple[Template, ...] = (
    Template("open_product", 1, "train", open_product),
    Template("read_price", 1, "train", read_price),
    Template("search_price", 2, "train", search_price),
    Template("add_one", 2, "train", add_one),
    Template("save_one", 2, "validation", save_one),
    Template("walk_price", 2, "validation", walk_price),
    Template("search_add", 2, "test", search_add),
    Template("review_one", 3, "train", review_one),
    Template("order_one", 3, "train", _order(1)),
    Template("add_two", 3, "train", _add(2)),
    Template("search_review", 3, "test", search_review),
    Template("order_two", 4, "train", _order(2)),
    Template("add_three", 4, "train", _add(3)),
)


def templates(task: str | None, split: Split, levels: tuple[int, ...] | None) -> tuple[Template, ...]:
    """The templates that an environment draws from.

    ``task`` is a template's name, "seen" (those of training; the default) or "unseen" (those kept for ``split``).
    Raises UsageError when nothing fits.
    """
    by_name = {t.name: t for t in TEMPLATES}
    if task in by_name:
        fits = [by_name[task]]
    elif task in (None, "seen"):
        fits = [t for t in TEMPLATES if t.split == "train"]
    elif task == "unseen":
        fits = [t for t in TEMPLATES if t.split == split != "train"]
    else:
        raise UsageError(f"no task {task!r} in the shop; there are seen, unseen, {', '.join(by_name)}")
    fits = [t for t in fits if levels is None or t.level in levels]
    if not fits:
        raise UsageError(f"the shop has no task {task or 'seen'!r} of level {levels} in split {split!r}")
    return tuple(fits)
