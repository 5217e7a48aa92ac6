"""HTML becomes words and numbered elements; forms send what a browser would send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turngym.envs.web import Element
from turngym.envs.web.document import Document, Submission, encode, join

URL = "http://a.localhost/shop/list?page=2#top"


def blocks(html: str) -> tuple[object, ...]:
    return Document(html, URL).page.blocks


def sent(html: str, element: int, **values: str) -> Submission | None:
    """What ``element`` submits once the elements with the given texts hold the given values."""
    document = Document(html, URL)
    for name, value in values.items():
        document.set(next(e for e in document.page.elements if e.text == name), value)
    found = document.page.element(element)
    assert found is not None
    return document.submission(found)


def fields(html: str, element: int, **values: str) -> str:
    submission = sent(html, element, **values)
    assert submission is not None
    return submission.fields


def test_title_and_path() -> None:
    page = Document("<title> A \n b </title><p>c", URL).page
    assert (page.title, page.path, page.blocks) == ("A b", "/shop/list?page=2", ("c",))
    assert Document("", "http://a.localhost/").page == Document("<body></body>", "http://a.localhost/").page


def test_the_walk_in_document_order() -> None:
    html = """<h1>One</h1> two <a href="/x"><b>three</b> four</a> five <button> six </button>
    <input type=submit value=seven><input aria-label=eight value=nine><textarea aria-label=ten>
eleven</textarea><select aria-label=sort><option>up<option selected>down</select><p>end</p>"""
    assert blocks(html) == (
        "One two",
        Element(1, "link", "three four"),
        "five",
        Element(2, "button", "six"),
        Element(3, "button", "seven"),
        Element(4, "textbox", "eight", "nine"),
        Element(5, "textbox", "ten", "eleven"),
        Element(6, "select", "sort", "down", ("up", "down")),
        "end",
    )


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>no</script>",
        "<style>no</style>",
        "<template><a href=/>no</a></template>",
        "<noscript>no</noscript>",
        "<div hidden>no <a href=/>no</a></div>",
        "<!-- no -->",
        "<input type=hidden name=a value=no>",
        "<input type=password value=no><input type=file>",
        "<button disabled>no</button><input disabled value=no>",
        "<label for=x>no</label>",
    ],
)
def test_what_is_not_shown(hidden: str) -> None:
    assert blocks(f"<p>yes</p>{hidden}<p>too</p>") == ("yes too",)


def test_an_anchor_without_a_target_is_text() -> None:
    assert blocks("<a>just</a> text") == ("just text",)


def test_labels() -> None:
    html = "<label for=x>big <i>box</i></label><input id=x><input><input id=x aria-label=' own  one '>"
    assert [e.text for e in Document(html, URL).page.elements] == ["big box", "", "own one"]


def test_a_select_without_options_shows_nothing() -> None:
    assert blocks("<select aria-label=s></select>") == (Element(1, "select", "s", ""),)


def test_controls_keep_what_html_lets_them_keep() -> None:
    html = """<input type=NUMBER aria-label=n value=abc><input aria-label=t value="a\nb">
    <textarea aria-label=a>a&#13;b</textarea>"""
    document = Document(html, URL)
    assert [e.value for e in document.page.elements] == ["", "ab", "a\nb"]
    for element in document.page.elements:
        document.set(element, "x\r\ny")
    assert [e.value for e in document.page.elements] == ["", "xy", "x\ny"]
    document.set(document.page.elements[0], "-1.5")
    assert document.page.elements[0] == Element(1, "textbox", "n", "-1.5")


FORM = """<form action="/go?x=1#part" {method}><input type=hidden name=h value=1><input name=t aria-label=t value=old>
<input aria-label=nameless value=2><input name=off disabled value=3><textarea name=a aria-label=a>l</textarea>
<input type=checkbox name=c1><input type=checkbox name=c2 checked><input type=radio name=r value=v checked>
<select name=s aria-label=s><option value=1>one<option value=2>two<option>three</select>
<button name=b value=first>first</button><button name=b value=second>second</button>
<button type=button name=b value=third>third</button><input type=file name=f></form>"""


def test_a_get_form_sends_its_fields_in_place_of_the_query() -> None:
    submission = sent(FORM.format(method=""), 5)
    assert submission == Submission("get", "http://a.localhost/go", "h=1&t=old&a=l&c2=on&r=v&s=1&b=first")


def test_a_post_form_keeps_the_query() -> None:
    submission = sent(FORM.format(method="method=POST"), 6)
    assert submission == Submission("post", "http://a.localhost/go?x=1", "h=1&t=old&a=l&c2=on&r=v&s=1&b=second")


def test_what_was_typed_and_chosen_is_sent() -> None:
    html = FORM.format(method="")
    assert fields(html, 5, t="a b", a="x\ny", s="two") == "h=1&t=a+b&a=x%0D%0Ay&c2=on&r=v&s=2&b=first"
    assert "&s=three&" in fields(html, 5, s="three")


def test_enter_in_a_text_box_presses_the_first_button() -> None:
    assert fields(FORM.format(method=""), 1).endswith("&b=first")
    assert fields("<form><input name=q aria-label=q></form>", 1, q="red mug") == "q=red+mug"


@pytest.mark.parametrize(
    ("html", "element"),
    [
        ("<button>alone</button>", 1),
        ("<form><button type=button>no</button></form>", 1),
        ("<form><input name=q><button disabled>no</button></form>", 1),
    ],
)
def test_what_submits_nothing(html: str, element: int) -> None:
    assert sent(html, element) is None


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("", "http://a.localhost/shop/list?page=2"),
        ("?", "http://a.localhost/shop/list?"),
        ("?q=1", "http://a.localhost/shop/list?q=1"),
        ("item", "http://a.localhost/shop/item"),
        ("/item?a#b", "http://a.localhost/item?a#b"),
        ("../up", "http://a.localhost/up"),
        ("#part", "http://a.localhost/shop/list?page=2#part"),
        ("//other/x", "http://other/x"),
        (" https://other/ ", "https://other/"),
        ("mailto:a@b", "mailto:a@b"),
        ("http://[", ""),
    ],
)
def test_join(target: str, url: str) -> None:
    assert join(URL, target) == url


def test_fields_are_encoded_as_browsers_do() -> None:
    assert encode([("q", "a b~*é&=\n"), ("", "\r\n\r")]) == "q=a+b%7E*%C3%A9%26%3D%0D%0A&=%0D%0A%0D%0A"


@given(html=st.text(max_size=300) | st.lists(st.sampled_from(FORM.split(">")), max_size=20).map(">".join))
def test_any_text_is_a_document_whose_numbers_count_from_one(html: str) -> None:
    page = Document(html, URL).page
    assert [e.id for e in page.elements] == list(range(1, len(page.elements) + 1))
    document = Document(html, URL)
    for element in page.elements:
        document.submission(element)
        assert document.node(element).tag in ("a", "button", "input", "textarea", "select")


def test_a_page_knows_its_site_and_a_changed_one_too() -> None:
    document = Document("<title>t</title><input aria-label=box>", URL, "forum")
    assert (document.page.site, document.page.tabs, Document("", URL).page.site) == ("forum", (), "")
    document.set(document.page.elements[0], "mug")
    assert (document.page.site, document.page.elements[0].value) == ("forum", "mug")
