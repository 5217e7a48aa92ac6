"""HTML to Page by lexbor: the walk that observe.js does in a browser, and what forms send."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlencode, urljoin

from selectolax.lexbor import LexborHTMLParser, LexborNode

from .effects import kept
from .page import Block, Element, Page

_SKIPPED = {"script", "style", "template", "noscript", "head"}
_TEXTBOX_TYPES = {"text", "search", "number"}


@dataclass(frozen=True, slots=True)
class Submission:
    """What a form sends: method ("get" or "post"), absolute URL without query, urlencoded fields."""

    method: str
    url: str
    fields: str


class Document:
    """A parsed page with the state that a visitor gives its controls; ``page`` is what it looks like now."""

    def __init__(self, html: str, url: str) -> None:
        self.url = url
        self._tree = LexborHTMLParser(html)  # its nodes live as long as it does
        self._nodes: list[LexborNode] = []
        title = self._tree.css_first("title")
        path = "/" + url.split("/", 3)[3] if url.count("/") > 2 else "/"
        self.page = Page(_words(title.text()) if title else "", path, tuple(self._walk()))
        self.focused: int | None = None

    def node(self, element: Element) -> LexborNode:
        return self._nodes[element.id - 1]

    def set(self, element: Element, value: str) -> None:
        """Let the text box or select hold ``value``."""
        if element.kind == "textbox":
            node = self.node(element)
            tag = "textarea" if node.tag == "textarea" else node.attributes.get("type") or "text"
            value = kept(tag, value)
        changed = replace(element, value=value)
        blocks = tuple(
            changed if isinstance(b, Element) and b.id == element.id else b for b in self.page.blocks
        )
        self.page = replace(self.page, blocks=blocks)

    def submission(self, element: Element) -> Submission | None:
        """What the form around ``element`` sends when it is submitted by it, or by Enter in it."""
        form = _ancestor(self.node(element), "form")
        if form is None:
            return None
        inside = [e for e in self.page.elements if _ancestor(self.node(e), "form") == form]
        submitter = (
            element if element.kind == "button" else next((e for e in inside if e.kind == "button"), None)
        )
        now = {self.node(e).mem_id: e for e in inside}
        fields = list[tuple[str, str]]()
        for node in form.css("input, select, textarea, button"):
            name, shown = node.attributes.get("name"), now.get(node.mem_id)
            if not name or "disabled" in node.attributes:
                continue
            if shown is None:
                fields += [(name, node.attributes.get("value") or "")] if _type(node) == "hidden" else []
            elif shown.kind != "button":
                fields.append((name, _sent(node, shown)))
            elif shown == submitter:
                fields.append((name, node.attributes.get("value") or ""))
        method = (form.attributes.get("method") or "get").lower()
        target = urljoin(self.url, form.attributes.get("action") or self.url)
        return Submission(method, target.split("?")[0] if method == "get" else target, urlencode(fields))

    def _walk(self) -> Iterator[Block]:
        body, words = self._tree.body, list[str]()
        for node in _visible(body) if body else ():
            if node.is_text_node:
                words.append(node.text_content or "")
                continue
            element = self._element(node)
            if element is None:
                continue
            if text := _words(" ".join(words)):
                yield text
            words.clear()
            self._nodes.append(node)
            yield element
        if text := _words(" ".join(words)):
            yield text

    def _element(self, node: LexborNode) -> Element | None:
        id, tag, attributes = len(self._nodes) + 1, node.tag, node.attributes
        if "disabled" in attributes:
            return None
        if tag == "a":
            return Element(id, "link", _words(node.text())) if attributes.get("href") is not None else None
        if tag == "button":
            return Element(id, "button", _words(node.text()))
        if tag == "input" and _type(node) == "submit":
            return Element(id, "button", _words(attributes.get("value") or ""))
        if tag == "textarea":
            return Element(id, "textbox", self._label(node), node.text())
        if tag == "input" and _type(node) in _TEXTBOX_TYPES:
            return Element(id, "textbox", self._label(node), attributes.get("value") or "")
        if tag == "select":
            options = node.css("option")
            texts = tuple(_words(o.text()) for o in options)
            chosen = [t for t, o in zip(texts, options, strict=True) if "selected" in o.attributes]
            return Element(id, "select", self._label(node), (chosen or list(texts[:1]) or [""])[-1], texts)
        return None

    def _label(self, node: LexborNode) -> str:
        named = node.attributes.get("aria-label")
        if named is None and (id := node.attributes.get("id")):
            labels = [n for n in self._tree.css("label") if n.attributes.get("for") == id]
            named = labels[0].text() if labels else ""
        return _words(named or "")


def _visible(parent: LexborNode) -> Iterator[LexborNode]:
    """Text nodes and elements in document order, without what is hidden and without the inside of controls."""
    node = parent.first_child
    while node is not None:
        if node.is_text_node:
            yield node
        elif node.is_element_node and node.tag not in _SKIPPED and "hidden" not in node.attributes:
            tag = node.tag
            if tag in ("button", "select", "textarea", "input") or (tag == "a" and "href" in node.attributes):
                yield node
            elif not (tag == "label" and "for" in node.attributes):
                yield from _visible(node)
        node = node.next


def _ancestor(node: LexborNode, tag: str) -> LexborNode | None:
    up = node.parent
    while up is not None and up.tag != tag:
        up = up.parent
    return up


def _sent(node: LexborNode, shown: Element) -> str:
    if shown.kind == "select":
        for option in node.css("option"):
            if _words(option.text()) == shown.value:
                value = option.attributes.get("value")
                return shown.value if value is None else value
    return shown.value


def _type(node: LexborNode) -> str:
    return (node.attributes.get("type") or "text").lower()


def _words(text: str) -> str:
    return " ".join(text.split())
