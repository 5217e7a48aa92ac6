"""All embedded sites as one environment: the tasks of each, and tasks across them, where they link to each other.

``gym.make("turngym.envs:turngym/WebSuite-v0", task=…, split=…, level=…, engine=…)``
"""

from collections.abc import Callable

import numpy as np

from .env import WebEnv
from .forum import tasks as forum
from .forum.data import Talk
from .forum.data import grow as grow_talk
from .forum.store import State as ForumState
from .forum.tasks import FORUM
from .shop import tasks as shop
from .shop.data import ADDRESSES, Product, Stock
from .shop.data import grow as grow_stock
from .shop.store import State as ShopState
from .shop.tasks import SHOP
from .task import Evaluator, Step, StringMatch, because, click
from .template import Draft, Job, Template
from .words import Split

Make = Callable[[Talk, Stock, np.random.Generator], Job]


def _ends(talk: ForumState, stock: ShopState) -> tuple[Evaluator, ...]:
    """Both sites end so: damage on either fails."""
    return (forum.ends(talk), shop.ends(stock))


def _tab(number: int, way: tuple[Step, ...]) -> tuple[Step, ...]:
    """The way, which starts at home in that tab."""
    return because(way[0].thought, Step("Switch Tab", argument=str(number))) + way


def _advised(talk: Talk, stock: Stock, rng: np.random.Generator) -> tuple[str, Product, tuple[Step, ...]]:
    """A product by the words of who advises it where, and the way from the forum's home to its page."""
    (t,) = forum.pick(talk, rng)
    comment = t.comments[int(rng.integers(len(t.comments)))]
    (product,) = (p for p in stock.products if p.id == comment.product)
    who, link = f"what {comment.user} advises", f"{comment.user} {product.name}"
    return f"{who} in {forum.named([t])}", product, forum.walk(t) + because(f"need {who}", *click(link))


def _put(product: Product) -> tuple[Step, ...]:
    return because(f"need {product.name}", *click("add item"))


def advised_price(talk: Talk, stock: Stock, rng: np.random.Generator) -> Job:
    what, p, way = _advised(talk, stock, rng)
    evaluators = (StringMatch(str(p.price)), *_ends(ForumState(), ShopState()))
    return Job(f"tell the price of {what}", way, evaluators, answer=str(p.price))


def add_advised(talk: Talk, stock: Stock, rng: np.random.Generator) -> Job:
    what, p, way = _advised(talk, stock, rng)
    return Job(f"put {what} in cart", way + _put(p), _ends(ForumState(), ShopState(cart=(p.id,))))


def order_advised(talk: Talk, stock: Stock, rng: np.random.Generator) -> Job:
    (what, p, way), address = _advised(talk, stock, rng), shop.one_of(ADDRESSES, rng)
    state = ShopState(orders=((address, (p.id,)),))
    return Job(f"order {what} to {address}", way + _put(p) + shop.pay(address), _ends(ForumState(), state))


def vote_and_add(talk: Talk, stock: Stock, rng: np.random.Generator) -> Job:
    topics, products = forum.pick(talk, rng), shop.pick(stock, rng)
    goal = f"vote up {forum.named(topics)} and put {shop.named(products)} in cart"
    gold = forum.vote_up(topics) + _tab(1, shop.fill(products))
    return Job(goal, gold, _ends(forum.upvoted(topics), ShopState(cart=shop.ids(products))))


def vote_and_order(talk: Talk, stock: Stock, rng: np.random.Generator) -> Job:
    topics, products, address = forum.pick(talk, rng), shop.pick(stock, rng), shop.one_of(ADDRESSES, rng)
    goal = f"vote up {forum.named(topics)} and order {shop.named(products)} to {address}"
    gold = forum.vote_up(topics) + _tab(1, shop.fill(products) + shop.pay(address))
    return Job(goal, gold, _ends(forum.upvoted(topics), ShopState(orders=((address, shop.ids(products)),))))


def add_and_join(talk: Talk, stock: Stock, rng: np.random.Generator) -> Job:
    products, boards = shop.pick(stock, rng), forum.pick_boards(talk, rng)
    goal = f"put {shop.named(products)} in cart and join {boards[0]}"
    gold = shop.fill(products) + _tab(1, forum.join_boards(boards))
    return Job(goal, gold, _ends(ForumState(joined=tuple(boards)), ShopState(cart=shop.ids(products))))


def _template(name: str, level: int, split: Split, make: Make, sites: tuple[str, str] = (FORUM, SHOP)) -> Template:
    """A template on a forum that advises the products of a shop; ``sites`` in the order of the tabs."""

    def draft(rng: np.random.Generator, data: Split) -> Draft:
        stock = grow_stock(rng, data)
        talk = grow_talk(rng, data, [(p.id, p.name) for p in stock.products])
        makes = {FORUM: forum.site(talk), SHOP: shop.site(stock)}
        return Draft(make(talk, stock, rng), {name: makes[name] for name in sites})

    return Template(name, level, split, draft)


ACROSS: tuple[Template, ...] = (
    _template("advised_price", 2, "train", advised_price),
    _template("add_advised", 2, "test", add_advised),
    _template("order_advised", 3, "train", order_advised),
    _template("vote_and_add", 3, "train", vote_and_add),
    _template("add_and_join", 3, "validation", add_and_join, (SHOP, FORUM)),
    _template("vote_and_order", 4, "train", vote_and_order),
)
TEMPLATES: tuple[Template, ...] = (*shop.TEMPLATES, *forum.TEMPLATES, *ACROSS)


class WebSuite(WebEnv):
    """Tasks on every embedded site and across them. Options: see WebEnv."""

    TEMPLATES = TEMPLATES
