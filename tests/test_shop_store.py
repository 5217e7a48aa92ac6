"""The shop's database: what a visitor changes, and nothing else, is its state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web.shop.data import Product, Stock, grow
from turngym.envs.web.shop.store import State, Status, Store

STOCK = Stock(
    ("attic", "bath"),
    (
        Product(1, "red mug", "attic", 7, "two"),
        Product(2, "blue mug", "bath", 99, "five"),
        Product(3, "red chair", "attic", 1, "one"),
    ),
)


def test_it_sells_its_stock() -> None:
    store = Store(STOCK)
    assert store.departments() == ["attic", "bath"]
    assert store.shelf("attic") == [STOCK.products[0], STOCK.products[2]]
    assert store.shelf("cellar") == []
    assert [store.product(i) for i in (2, 0, 4, 10**30)] == [STOCK.products[1], None, None, None]
    store.close()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_grown_stock_is_sold_whole(split: str) -> None:
    stock = grow(np.random.default_rng(1), split)  # type: ignore[arg-type]
    store = Store(stock)
    assert store.departments() == list(stock.departments)
    assert sorted((p for d in stock.departments for p in store.shelf(d)), key=lambda p: p.id) == list(stock.products)
    store.close()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("red mug", [1, 2, 3]),
        ("  RED   Chair ", [3, 1]),
        ("mug", [1, 2]),
        ("re", []),
        ("", []),
        ("'; DROP TABLE product; --", []),
        ("% _ mug", [1, 2]),
    ],
)
def test_search_ranks_by_shared_words(query: str, found: list[int]) -> None:
    store = Store(STOCK)
    assert [p.id for p in store.search(query)] == found
    assert [p.id for p in store.search(query, limit=1)] == found[:1]
    store.close()


def test_a_product_is_first_among_those_found_by_its_name() -> None:
    stock = grow(np.random.default_rng(2), "test")
    store = Store(stock)
    for product in stock.products:
        found = store.search(product.name)
        assert found[0] == product and len(found) <= 6
    store.close()


def test_nothing_is_changed_at_first() -> None:
    store = Store(STOCK)
    assert store.state() == State() and store.status() == Status((), ()) and store.cart() == []
    store.close()


def test_the_cart_is_a_multiset_without_order() -> None:
    store = Store(STOCK)
    for product in (2, 1, 2):
        store.add_to_cart(product)
    assert store.state() == State(cart=(1, 2, 2))
    assert store.status().cart == ("blue mug", "red mug", "blue mug")
    (line, product), *_ = store.cart()
    assert product == STOCK.products[1]
    store.remove_from_cart(line)
    store.remove_from_cart(line)
    store.remove_from_cart(10**30)
    assert store.state() == State(cart=(1, 2))
    store.close()


def test_saving_twice_is_saving_once_and_reviewing_twice_is_twice() -> None:
    store = Store(STOCK)
    for product in (3, 1, 3):
        store.save(product)
    store.review(3, "five")
    store.review(1, "one")
    store.review(3, "five")
    assert store.state() == State(saved=(1, 3), reviews=((3, "five"), (1, "one"), (3, "five")))
    assert store.status().saved == ("red mug", "red chair")
    assert store.status().reviews == (("red chair", "five"), ("red mug", "one"), ("red chair", "five"))
    store.close()


def test_an_order_empties_the_cart() -> None:
    store = Store(STOCK)
    store.add_to_cart(3)
    store.add_to_cart(1)
    store.order("farm")
    store.add_to_cart(2)
    store.order("cabin")
    assert store.state() == State(orders=(("farm", (1, 3)), ("cabin", (2,))))
    assert store.status().orders == (("red chair", "farm"), ("red mug", "farm"), ("blue mug", "cabin"))
    assert store.cart() == []
    store.close()


CHANGES = st.lists(st.tuples(st.sampled_from(["add", "remove", "save", "review", "order"]), st.integers(1, 3)))


@given(changes=CHANGES)
def test_any_changes_agree_with_a_model_in_python(changes: list[tuple[str, int]]) -> None:
    store, cart, saved = Store(STOCK), list[int](), set[int]()
    reviews, orders = list[tuple[int, str]](), list[tuple[str, tuple[int, ...]]]()
    for what, product in changes:
        if what == "add":
            store.add_to_cart(product)
            cart.append(product)
        elif what == "remove" and cart:
            store.remove_from_cart(store.cart()[0][0])
            cart.pop(0)
        elif what == "save":
            store.save(product)
            saved.add(product)
        elif what == "review":
            store.review(product, "two")
            reviews.append((product, "two"))
        elif what == "order":
            store.order("farm")
            orders.append(("farm", tuple(sorted(cart))))
            cart.clear()
    wanted = State(tuple(sorted(cart)), tuple(sorted(saved)), tuple(reviews), tuple(orders))
    assert store.state() == wanted
    assert [p.id for _, p in store.cart()] == cart
    store.close()


def test_shops_share_nothing() -> None:
    one, two = Store(STOCK), Store(STOCK)
    one.add_to_cart(1)
    assert two.state() == State()
    one.close()
    two.save(2)
    assert two.state() == State(saved=(2,))
    two.close()
