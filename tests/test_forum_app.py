"""The forum's pages over HTTP: what each shows, what each post does, and that words stay words."""

from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web import Page
from turngym.envs.web.document import Document
from turngym.envs.web.forum.app import ForumSite, shop_of
from turngym.envs.web.forum.data import KINDS, Comment, Talk, Topic
from turngym.envs.web.forum.store import State
from turngym.envs.web.transport import InProcess

ODD = '<b>"odd" & bold</b>'
TALK = Talk(
    ("books", "films"),
    (
        Topic(1, "sell mug", "books", "ada", 7, (Comment("ben", "red chair", 5), Comment("leo", "blue pan"))),
        Topic(2, "fold mug", "films", "ben", 1, ()),
        Topic(3, ODD, "books", "ben", 89, (Comment("ada", ODD, 6),)),
    ),
    (("ada", 5), ("ben", 60)),
)
HOME = ["home", "search box"]
HUGE = "9" * 30


class Visitor:
    """A client of one forum."""

    def __init__(self, host: str = "forum.ab12.localhost") -> None:
        self.site = ForumSite(TALK)
        self.http = httpx.Client(transport=InProcess(self.site), base_url=f"http://{host}")

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


def whole(page: Page) -> str:
    """Text and names of elements in the order shown."""
    return " ".join(b if isinstance(b, str) else b.text for b in page.blocks)


def test_home_and_boards(visitor: Visitor) -> None:
    page = visitor.page("/")
    assert (page.title, names(page), text(page)) == ("forum", [*HOME, "books", "films"], "")
    board = visitor.page("/board/books")
    assert (board.title, names(board)) == ("books", [*HOME, "join", "write post", "sell mug", ODD])
    assert text(board) == ""


def test_a_topic(visitor: Visitor) -> None:
    page = visitor.page("/topic/1")
    assert page.title == "sell mug" and [e.kind for e in page.elements[-2:]] == ["textbox", "button"]
    assert whole(page) == (
        "home search box by ada votes 7 vote up vote down ben red chair leo blue pan comment send comment"
    )
    assert names(page) == [*HOME, "ada", "vote up", "vote down", "ben red chair", "comment", "send comment"]
    bare = visitor.page("/topic/2")
    assert names(bare) == [*HOME, "ben", "vote up", "vote down", "comment", "send comment"]


def test_advice_is_a_link_to_the_shop(visitor: Visitor) -> None:
    html = visitor.http.get("/topic/1").text
    assert '<a href="http://shop.ab12.localhost/product/5"><small>ben</small> red chair</a>' in html
    assert "target" not in html


NO_FORUMS = """forum.localhost forum..localhost a.forum.ab.localhost forum.a.b.localhost shop.ab12.localhost
forum.ab12.localhost: forum.ab12.localhost:port forum."><b>.localhost forum.ab12.example.com 127.0.0.1:8000"""


def test_the_shop_of_a_host() -> None:
    assert shop_of("forum.ab12.localhost") == "http://shop.ab12.localhost"
    assert shop_of("forum.0.localhost:8080") == "http://shop.0.localhost:8080"
    assert [shop_of(host) for host in (*NO_FORUMS.split(), "forum.ab12.localhost\n", "")] == [None] * 12


def test_advice_is_plain_text_where_there_can_be_no_shop() -> None:
    visitor = Visitor("forum.localhost")
    page = visitor.page("/topic/1")
    assert "ben red chair" not in names(page) and "ben red chair leo blue pan" in whole(page)
    visitor.site.close()


def test_a_user_can_be_followed_and_left(visitor: Visitor) -> None:
    page = visitor.page("/user/ben")
    assert (page.title, names(page), text(page)) == ("ben", [*HOME, "follow"], "karma 60")
    assert visitor.post("/user/ben/follow") == "/user/ben" == visitor.post("/user/ben/follow")
    page = visitor.page("/user/ben")
    assert (names(page), text(page)) == ([*HOME, "following"], "following ben karma 60")
    assert visitor.site.state() == State(following=("ben",))
    assert names(visitor.page("/user/ada")) == [*HOME, "follow"]
    assert visitor.post("/user/ben/unfollow") == "/user/ben" and visitor.site.state() == State()


def test_a_board_can_be_joined_and_left(visitor: Visitor) -> None:
    assert visitor.post("/board/books/join") == "/board/books" == visitor.post("/board/books/join")
    page = visitor.page("/board/books")
    assert names(page)[2:4] == ["leave", "write post"] and text(page) == "joined books"
    assert names(visitor.page("/board/films"))[2:4] == ["join", "write post"]
    assert visitor.site.state() == State(joined=("books",))
    assert visitor.post("/board/books/leave") == "/board/books" and visitor.site.state() == State()


def test_votes(visitor: Visitor) -> None:
    shown = []
    for way in ("up", "up", "down", "up"):
        assert visitor.post(f"/topic/1/vote/{way}") == "/topic/1"
        shown.append(text(visitor.page("/topic/1")).split("votes ")[1].split()[0])
    assert shown == ["8", "8", "6", "8"] and visitor.site.state() == State(votes=((1, 1),))
    assert text(visitor.page("/")) == "voted up sell mug"


def test_a_comment(visitor: Visitor) -> None:
    for empty in ("", "  ", "\n"):
        assert visitor.post("/topic/1/comment", text=empty) == "/topic/1?missing=comment"
    assert visitor.post("/topic/1/comment") == "/topic/1?missing=comment"
    assert "comment is empty" in text(visitor.page("/topic/1?missing=comment"))
    assert "comment is empty" not in text(visitor.page("/topic/1")) and visitor.site.state() == State()
    assert visitor.post("/topic/1/comment", text=" golden   lamp\n") == "/topic/1"
    assert visitor.site.state() == State(comments=((1, "golden lamp"),))
    page = visitor.page("/topic/1")
    assert "leo blue pan user golden lamp comment" in whole(page)
    assert whole(page).startswith("home search box commented sell mug golden lamp by ada")


def test_a_post(visitor: Visitor) -> None:
    page = visitor.page("/board/films/write")
    assert (page.title, names(page)) == ("write", [*HOME, "title", "kind", "send post"])
    assert page.elements[3].options == ("choose", *KINDS) and page.elements[3].value == "choose"
    form = "/board/films/write"
    for data in ({}, {"title": "lend pan"}, {"title": "lend pan", "kind": "choose"}, {"title": "a", "kind": "poem"}):
        assert visitor.post(form, **data).startswith(f"{form}?missing=")
    for title in ("", " "):
        assert visitor.post(form, title=title, kind="story") == f"{form}?missing=title"
    assert "please choose" in text(visitor.page(f"{form}?missing=title")) and "please choose" not in text(page)
    assert visitor.site.state() == State()
    assert visitor.post(form, title=" lend  pan", kind="story") == "/board/films"
    assert visitor.site.state() == State(posts=(("films", "lend pan", "story"),))
    assert names(visitor.page("/board/films"))[-1] == "lend pan"
    own = visitor.page("/topic/4")
    assert own.title == "lend pan" and names(own) == [*HOME, "vote up", "vote down", "comment", "send comment"]
    assert text(own) == "posted lend pan story films by user votes 1"


def test_a_file_is_no_text(visitor: Visitor) -> None:
    response = visitor.http.post("/topic/1/comment", files={"text": b"golden lamp"})
    assert response.headers["location"] == "/topic/1?missing=comment"
    assert visitor.site.state() == State()


def test_search_finds_or_says_that_it_did_not(visitor: Visitor) -> None:
    page = visitor.page("/search?q=fold+mug")
    assert (page.title, names(page)[2:]) == ("results", ["fold mug", "sell mug"])
    assert text(visitor.page("/search?q=spoon")) == "nothing found" == text(visitor.page("/search"))


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/topic/9",
        "/topic/x",
        f"/topic/{HUGE}",
        "/topic/-1",
        "/board/cellar",
        "/board/books/nowhere",
        "/board/cellar/write",
        "/user/leo",
        "/user/user",
        "/user/%ff%00",
    ],
)
def test_what_is_missing_is_a_page_with_the_way_home(visitor: Visitor, path: str) -> None:
    visitor.post("/board/books/join")
    page = visitor.page(path, 404)
    assert (page.title, names(page), text(page)) == ("not found", HOME, "joined books page not found")


@pytest.mark.parametrize(
    "path",
    [
        "/topic/9/vote/up",
        f"/topic/{HUGE}/vote/up",
        "/topic/1/vote/twice",
        "/topic/9/comment",
        "/board/cellar/join",
        "/board/cellar/leave",
        "/board/cellar/write",
        "/user/leo/follow",
        "/user/leo/unfollow",
        "/user/ada",
        "/topic/1",
        "/",
        "/search",
    ],
)
def test_posts_to_nothing_change_nothing(visitor: Visitor, path: str) -> None:
    data = {"text": "golden lamp", "title": "lend pan", "kind": "story"}
    assert visitor.http.post(path, data=data).status_code == 404
    assert visitor.site.state() == State()


def test_getting_never_changes_anything(visitor: Visitor) -> None:
    for path in ("/topic/1/vote/up", "/topic/1/comment?text=a", "/board/books/join", "/user/ada/follow"):
        visitor.page(path, 404)
    visitor.page("/board/books/write?title=a&kind=story")
    assert visitor.site.state() == State()


def test_every_page_shows_the_status(visitor: Visitor) -> None:
    visitor.post("/board/films/join")
    visitor.post("/topic/3/vote/down")
    visitor.post("/topic/1/vote/up")
    visitor.post("/topic/1/comment", text="tall lamp")
    visitor.post("/board/books/write", title="lend pan", kind="advice")
    visitor.post("/user/ada/follow")
    status = (
        f"home search box joined films voted down {ODD} up sell mug commented sell mug tall lamp "
        "posted lend pan advice books following ada"
    )
    for path in ("/", "/board/books", "/board/films/write", "/topic/2", "/topic/4", "/search?q=mug", "/user/ben"):
        assert whole(visitor.page(path)).startswith(status)
    assert whole(visitor.page("/nowhere", 404)) == f"{status} page not found"


def test_words_of_the_talk_are_never_markup(visitor: Visitor) -> None:
    html = visitor.http.get("/topic/3").text
    escaped = "&lt;b&gt;&#34;odd&#34; &amp; bold&lt;/b&gt;"
    assert f"<title>{escaped}</title>" in html and f'data-title="{escaped}"' in html and "<b>" not in html


HOSTILE = st.lists(
    st.sampled_from(
        ["<script>", "</form>", '"', "'", "&", "{{", "}}", "mug", " ", "</title>", "\x00", "é", "<a href=/x>"]
    )
).map("".join)


@given(query=HOSTILE | st.text())
def test_a_hostile_query_finds_topics_at_most(query: str) -> None:
    visitor = Visitor()
    page = visitor.page(str(httpx.URL("/search", params={"q": query})))
    assert page.title == "results" and names(page)[:2] == HOME
    assert set(names(page)[2:]) <= {t.title for t in TALK.topics}
    assert text(page) in ("", "nothing found")
    visitor.site.close()


@given(words=HOSTILE | st.text(st.characters(exclude_categories=["Cs"])))
def test_what_a_visitor_writes_is_kept_as_words(words: str) -> None:
    visitor = Visitor()
    plain = " ".join(words.split())
    visitor.post("/topic/2/comment", text=words)
    visitor.post("/board/films/write", title=words, kind="story")
    kept = State(comments=((2, plain),), posts=(("films", plain, "story"),)) if plain else State()
    assert visitor.site.state() == kept
    if "\x00" not in plain:  # which HTML cannot say
        shown = f"user {plain}" if plain else ""
        assert names(visitor.page("/topic/2")) == [*HOME, "ben", "vote up", "vote down", "comment", "send comment"]
        assert shown in text(visitor.page("/topic/2"))
        assert len(names(visitor.page("/board/films"))) == (6 if plain else 5)
    visitor.site.close()


def test_forums_share_an_application_but_no_state(visitor: Visitor) -> None:
    other = Visitor()
    visitor.post("/board/books/join")
    assert text(other.page("/")) == "" and text(visitor.page("/")) == "joined books"
    other.site.close()
