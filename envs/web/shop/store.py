"""A shop's database: one SQLite file in memory an episode, made from a template in well under a millisecond."""

import sqlite3
from dataclasses import dataclass, field
from functools import cache

from .data import Product, Stock

_LARGEST = 2**63 - 1  # integer of SQLite; nothing has this id
_SCHEMA = """
CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, department TEXT, price INTEGER, stars TEXT);
CREATE TABLE department (name TEXT);
CREATE TABLE cart (id INTEGER PRIMARY KEY, product INTEGER);
CREATE TABLE saved (product INTEGER PRIMARY KEY);
CREATE TABLE review (id INTEGER PRIMARY KEY, product INTEGER, stars TEXT);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, address TEXT);
CREATE TABLE purchase_item (purchase INTEGER, product INTEGER);
"""


@dataclass(frozen=True, slots=True)
class State:
    """All that a visitor can change; a task names the state that it wants, so collateral damage fails."""

    cart: tuple[int, ...] = ()  # product ids, ascending
    saved: tuple[int, ...] = ()
    reviews: tuple[tuple[int, str], ...] = ()  # (product, stars)
    orders: tuple[tuple[str, tuple[int, ...]], ...] = ()  # (address, products ascending)


@dataclass(frozen=True, slots=True)
class Status:
    """What every page shows of the state, in names."""

    cart: tuple[str, ...]
    saved: tuple[str, ...]
    reviews: tuple[tuple[str, str], ...] = field(default=())
    orders: tuple[tuple[str, str], ...] = field(default=())


@cache
def _template() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(_SCHEMA)
        data = bytes(connection.serialize())
    connection.close()
    return data


class Store:
    """Queries over one shop's database; belongs to the thread that made it."""

    def __init__(self, stock: Stock) -> None:
        self._db = db = sqlite3.connect(":memory:", isolation_level=None)
        db.deserialize(_template())
        db.execute("BEGIN")
        db.executemany("INSERT INTO department VALUES (?)", [(d,) for d in stock.departments])
        db.executemany(
            "INSERT INTO product VALUES (?, ?, ?, ?, ?)",
            [(p.id, p.name, p.department, p.price, p.stars) for p in stock.products],
        )
        db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()

    def departments(self) -> list[str]:
        return [name for (name,) in self._db.execute("SELECT name FROM department ORDER BY rowid")]

    def shelf(self, department: str) -> list[Product]:
        return self._products("WHERE department = ? ORDER BY id", (department,))

    def product(self, id: int) -> Product | None:
        found = self._products("WHERE id = ?", (min(id, _LARGEST),))
        return found[0] if found else None

    def search(self, query: str, limit: int = 6) -> list[Product]:
        """Products that share a word with ``query``, most shared words first."""
        words = set(query.lower().split())
        hits = [(len(words & set(p.name.split())), p) for p in self._products("ORDER BY id", ())]
        return [p for n, p in sorted(hits, key=lambda hit: -hit[0]) if n][:limit]

    def add_to_cart(self, product: int) -> None:
        self._db.execute("INSERT INTO cart (product) VALUES (?)", (product,))

    def remove_from_cart(self, line: int) -> None:
        self._db.execute("DELETE FROM cart WHERE id = ?", (min(line, _LARGEST),))

    def cart(self) -> list[tuple[int, Product]]:
        """Lines of the cart: (line id, product)."""
        rows = self._db.execute(
            "SELECT cart.id, p.id, p.name, p.department, p.price, p.stars FROM cart "
            "JOIN product p ON p.id = cart.product ORDER BY cart.id"
        )
        return [(line, Product(*rest)) for line, *rest in rows]

    def save(self, product: int) -> None:
        self._db.execute("INSERT OR IGNORE INTO saved VALUES (?)", (product,))

    def review(self, product: int, stars: str) -> None:
        self._db.execute("INSERT INTO review (product, stars) VALUES (?, ?)", (product, stars))

    def order(self, address: str) -> None:
        """Turn the cart into an order."""
        db = self._db
        db.execute("BEGIN")
        purchase = db.execute("INSERT INTO purchase (address) VALUES (?)", (address,)).lastrowid
        db.execute("INSERT INTO purchase_item SELECT ?, product FROM cart", (purchase,))
        db.execute("DELETE FROM cart")
        db.execute("COMMIT")

    def state(self) -> State:
        rows = self._db.execute
        orders = tuple(
            (
                address,
                tuple(p for (p,) in rows("SELECT product FROM purchase_item WHERE purchase = ? ORDER BY 1", (i,))),
            )
            for i, address in rows("SELECT id, address FROM purchase ORDER BY id").fetchall()
        )
        return State(
            tuple(p for (p,) in rows("SELECT product FROM cart ORDER BY 1")),
            tuple(p for (p,) in rows("SELECT product FROM saved ORDER BY 1")),
            tuple(rows("SELECT product, stars FROM review ORDER BY id")),
            orders,
        )

    def status(self) -> Status:
        rows = self._db.execute

        def join(table: str, column: str = "") -> str:
            return f"SELECT p.name{column} FROM {table} t JOIN product p ON p.id = t.product ORDER BY t.rowid"

        return Status(
            tuple(name for (name,) in rows(join("cart"))),
            tuple(name for (name,) in rows(join("saved"))),
            tuple(rows(join("review", ", t.stars"))),
            tuple(
                rows(
                    "SELECT p.name, o.address FROM purchase_item t JOIN product p ON p.id = t.product "
                    "JOIN purchase o ON o.id = t.purchase ORDER BY t.rowid"
                )
            ),
        )

    def _products(self, where: str, values: tuple[object, ...]) -> list[Product]:
        rows = self._db.execute(f"SELECT id, name, department, price, stars FROM product {where}", values)
        return [Product(*row) for row in rows]
