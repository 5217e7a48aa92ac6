"""The shop's pages over HTTP: what each shows, what each post does, and that words stay words."""

from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web import Page
from turngym.envs.web.document import Document
from turngym.envs.web.shop.app import ShopSite
from turngym.envs.web.shop.data import ADDRESSES, STARS, Product, Stock
from turngym.envs.web.shop.store import State
from turngym.envs.web.transport import InProcess

STOCK = Stock(
    ("attic", "bath"),
    (
        Product(1, "red mug", "attic", 7, "two"),
        Product(2, "blue mug", "bath", 99, "five"),
        Product(3, '<b>"odd" & bold</b>', "attic", 1, "one"),
    ),
)
HOME = ["home", "cart", "search box"]


class Visitor:
    """A client of one shop."""

    def __init__(self, stock: Stock = STOCK) -> None:
        self.site = ShopSite(stock)
        self.http = httpx.Client(transport=InProcess(self.site), base_url="http://shop.localhost")

    def page(self, path: str, status: int = 200) -> Page:
        response = self.http.get(path, follow_redirects=True)
        assert response.status_code == status and response.headers["cache-control"] == "no-store"
        return Document(response.text, str(response.url)).page

    def post(self, path: str, **data: str) -> str:
        """Where the answer leads."""
        response = self.http.post(path, data=data)
        assert response.status_code == 303
        return response.headers["location"]


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    visitor = Visitor()
    yield visitor
    visitor.site.close()


def names(page: Page) -> list[str]:
    return [e.text for e in page.elements]


def text(page: Page) -> str:
    return " ".join(b for b in page.blocks if isinstance(b, str))


def test_home_and_departments(visitor: Visitor) -> None:
    page = visitor.page("/")
    assert (page.title, names(page), text(page)) == ("shop", [*HOME, "attic", "bath"], "cart holds nothing")
    shelf = visitor.page("/department/attic")
    assert (shelf.title, names(shelf)) == ("attic", [*HOME, "red mug", STOCK.products[2].name])


def test_a_product(visitor: Visitor) -> None:
    page = visitor.page("/product/2")
    assert (page.title, names(page)) == ("blue mug", [*HOME, "add item", "save item", "write review"])
    assert text(page) == "cart holds nothing price 99 rated five"


def test_search_finds_or_says_that_it_did_not(visitor: Visitor) -> None:
    page = visitor.page("/search?q=mug")
    assert (page.title, names(page)[3:]) == ("results", ["red mug", "blue mug"])
    assert text(visitor.page("/search?q=spoon")).endswith("nothing found")
    assert text(visitor.page("/search")).endswith("nothing found")


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/product/9",
        "/product/x",
        "/product/99999999999999999999",
        "/department/cellar",
        "/product/9/review",
    ],
)
def test_what_is_missing_is_a_page_with_the_way_home(visitor: Visitor, path: str) -> None:
    visitor.post("/product/1/add")
    page = visitor.page(path, 404)
    assert (page.title, names(page), text(page)) == ("not found", HOME, "cart holds red mug page not found")


@pytest.mark.parametrize("path", ["/product/9/add", "/product/9/save", "/product/9/review", "/", "/search"])
def test_posts_to_nothing_change_nothing(visitor: Visitor, path: str) -> None:
    assert visitor.http.post(path, data={"stars": "two"}).status_code == 404
    assert visitor.site.store.state() == State()


def test_getting_never_changes_anything(visitor: Visitor) -> None:
    for path in ("/product/1/add", "/product/1/save", "/cart/1/remove"):
        visitor.page(path, 404)
    for path in ("/product/1/review?stars=two", "/checkout?address=farm"):
        visitor.page(path)
    assert visitor.site.store.state() == State()


def test_cart_add_and_remove(visitor: Visitor) -> None:
    assert text(visitor.page("/cart")).endswith("empty") and names(visitor.page("/cart")) == HOME
    assert visitor.post("/product/2/add") == "/cart" and visitor.post("/product/1/add") == "/cart"
    page = visitor.page("/cart")
    assert names(page) == [*HOME, "remove", "remove", "check out"]
    assert text(page) == "cart holds blue mug red mug blue mug 99 red mug 7"
    assert visitor.post("/cart/1/remove") == "/cart"
    assert visitor.site.store.state() == State(cart=(1,))
    assert visitor.post("/cart/99999999999999999999/remove") == "/cart"
    assert visitor.site.store.state() == State(cart=(1,))


def test_save(visitor: Visitor) -> None:
    assert visitor.post("/product/1/save") == "/product/1"
    assert visitor.site.store.state() == State(saved=(1,))


def test_review(visitor: Visitor) -> None:
    page = visitor.page("/product/1/review")
    assert (page.title, names(page)) == ("review", [*HOME, "stars", "send review"])
    assert page.elements[3].options == ("choose", *STARS) and page.elements[3].value == "choose"
    for stars in ("choose", "six", ""):
        assert visitor.post("/product/1/review", stars=stars) == "/product/1/review?missing=stars"
    assert visitor.post("/product/1/review") == "/product/1/review?missing=stars"
    assert "please choose" in text(visitor.page("/product/1/review?missing=stars"))
    assert "please choose" not in text(page) and visitor.site.store.state() == State()
    assert visitor.post("/product/1/review", stars="two") == "/product/1"
    assert visitor.site.store.state() == State(reviews=((1, "two"),))


def test_a_file_is_no_choice(visitor: Visitor) -> None:
    response = visitor.http.post("/product/1/review", files={"stars": b"two"})
    assert response.headers["location"] == "/product/1/review?missing=stars"
    assert visitor.site.store.state() == State()


def test_checkout(visitor: Visitor) -> None:
    assert visitor.page("/checkout").path == "/cart" and visitor.post("/checkout", address="farm") == "/cart"
    visitor.post("/product/1/add")
    page = visitor.page("/checkout")
    assert (page.title, names(page)) == ("order", [*HOME, "address", "place order"])
    assert page.elements[3].options == ("choose", *ADDRESSES) and "please choose" not in text(page)
    assert visitor.post("/checkout", address="moon") == "/checkout?missing=address"
    assert "please choose" in text(visitor.page("/checkout?missing=address"))
    assert visitor.site.store.state() == State(cart=(1,))
    assert visitor.post("/checkout", address="farm") == "/"
    assert visitor.site.store.state() == State(orders=(("farm", (1,)),))


def test_every_page_shows_the_status(visitor: Visitor) -> None:
    visitor.post("/product/1/add")
    visitor.post("/checkout", address="farm")
    visitor.post("/product/2/review", stars="one")
    visitor.post("/product/3/save")
    visitor.post("/product/2/add")
    status = 'cart holds blue mug saved <b>"odd" & bold</b> reviewed blue mug one ordered red mug to farm'
    for path in ("/", "/department/bath", "/search?q=mug", "/product/1", "/product/1/review", "/cart", "/checkout"):
        assert text(visitor.page(path)).startswith(status)
    assert text(visitor.page("/nowhere", 404)) == f"{status} page not found"


def test_words_of_the_stock_are_never_markup(visitor: Visitor) -> None:
    html = visitor.http.get("/product/3").text
    assert "<title>&lt;b&gt;&#34;odd&#34; &amp; bold&lt;/b&gt;</title>" in html and "<b>" not in html


HOSTILE = st.lists(
    st.sampled_from(
        ["<script>", "</form>", '"', "'", "&", "{{", "}}", "mug", " ", "</title>", "\x00", "é", "<a href=/x>"]
    )
).map("".join)


@given(query=HOSTILE | st.text())
def test_a_hostile_query_finds_products_at_most(query: str) -> None:
    visitor = Visitor()
    page = visitor.page(str(httpx.URL("/search", params={"q": query})))
    assert page.title == "results" and names(page)[:3] == HOME
    assert set(names(page)[3:]) <= {p.name for p in STOCK.products}
    assert text(page) in ("cart holds nothing", "cart holds nothing nothing found")
    visitor.site.close()


def test_shops_share_an_application_but_no_state(visitor: Visitor) -> None:
    other = Visitor()
    visitor.post("/product/1/add")
    assert text(other.page("/")) == "cart holds nothing" and "red mug" in text(visitor.page("/"))
    other.site.close()
