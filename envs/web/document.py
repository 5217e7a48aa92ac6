"""HTML to Page by lexbor: the walk that observe.js does in a browser, and what forms send."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode, urljoin

from selectolax.lexbor import LexborHTMLParser, LexborNode

from .effects import kept
from .page import Block, Element, Page

_SKIPPED = {"script", "style", "template", "noscript", "head"}
_MUTE = {"button", "reset", "image", "file"}
_LINE = re.compile(r"\r\n|\r|\n")
_TEXTBOX_TYPES = {"text", "search", "number"}


@dataclass(frozen=True, slots=True)
class Submission:
    """What a form sends: method ("get" or "post"), absolute URL without query, urlencoded fields."""

    method: str
    url: str
    fields: str


class Document:
    """A parsed page with the state that a visitor gives its controls; ``page`` is what it looks like now."""

    def __init__(self, html: str, url: str, site: str = "") -> None:
        self.url = url
        self._tree = LexborHTMLParser(html)  # its nodes live as long as it does
        self._nodes: list[LexborNode] = []
        title = self._tree.css_first("title")
        path = "/" + url.split("#")[0].split("/", 3)[3]
        self.page = Page(_words(title.text()) if title else "", path, tuple(self._walk()), site)
        self.focused: int | None = None

    def node(self, element: Element) -> LexborNode:
        return self._nodes[element.id - 1]

    def set(self, element: Element, value: str) -> None:
        """Let the text box or select hold ``value``."""
        if element.kind == "textbox":
            value = _kept(self.node(element), value)
        changed = replace(element, value=value)
        blocks = tuple(changed if isinstance(b, Element) and b.id == element.id else b for b in self.page.blocks)
        self.page = replace(self.page, blocks=blocks)

    def submission(self, element: Element) -> Submission | None:
        """What the form around ``element`` sends when it is submitted by it, or by Enter in it."""
        form = _ancestor(self.node(element), "form")
        if form is None:
            return None
        controls = form.css("input, select, textarea, button")
        buttons = [self.node(element)] if element.kind == "button" else [n for n in controls if _submits(n)]
        if buttons and ("disabled" in buttons[0].attributes or not _submits(buttons[0])):
            return None  # a disabled default button forbids implicit submission
        sender = buttons[0].mem_id if buttons else None
        shown = {self.node(e).mem_id: e for e in self.page.elements}
        fields = list[tuple[str, str]]()
        for node in controls:
            name, id = node.attributes.get("name"), node.mem_id
            value = _value(node, shown.get(id), sender=id == sender)
            if name and value is not None and "disabled" not in node.attributes:
                fields.append((name, value))
        method = (form.attributes.get("method") or "get").lower()
        target = join(self.url, form.attributes.get("action") or "").split("#")[0]
        return Submission(method, target.split("?")[0] if method == "get" else target, encode(fields))

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
            return Element(id, "textbox", self._label(node), _kept(node, node.text()))
        if tag == "input" and _type(node) in _TEXTBOX_TYPES:
            return Element(id, "textbox", self._label(node), _kept(node, attributes.get("value") or ""))
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


def join(base: str, target: str) -> str:
    """The absolute URL of ``target``, "" when it is none; unlike urllib's, an empty query stays one."""
    front, mark, part = target.strip().partition("#")
    path, question, query = front.partition("?")
    here = base.split("#")[0]
    if path:
        try:
            here = urljoin(here, path)
        except ValueError:
            return ""
    elif question:
        here = here.split("?")[0]
    return here + question + query + mark + part


def encode(fields: Sequence[tuple[str, str]]) -> str:
    """``fields`` urlencoded as browsers do it: lines end with CR LF, ``~`` is escaped and ``*`` is not."""
    lines = [(_LINE.sub("\r\n", name), _LINE.sub("\r\n", value)) for name, value in fields]
    return urlencode(lines, safe="*").replace("~", "%7E")


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


def _value(node: LexborNode, shown: Element | None, *, sender: bool) -> str | None:
    """What a control sends, None when nothing; ``shown`` is what the page shows of it, if anything."""
    attributes, type = node.attributes, _type(node)
    if _submits(node):
        return attributes.get("value") or "" if sender else None
    if node.tag == "select":
        options = node.css("option")
        chosen = [o for o in options if "selected" in o.attributes] or options[:1]
        if shown:
            chosen = [o for o in options if _words(o.text()) == shown.value][:1]
        value = chosen[-1].attributes.get("value") if chosen else None
        return value if value is not None or not chosen else _words(chosen[-1].text())
    if shown and shown.kind == "textbox":
        return shown.value
    if node.tag == "textarea":
        return node.text()
    if type in ("checkbox", "radio"):
        return (attributes.get("value") or "on") if "checked" in attributes else None
    return None if type in _MUTE or node.tag == "button" else attributes.get("value") or ""


def _submits(node: LexborNode) -> bool:
    type = (node.attributes.get("type") or "submit").lower() if node.tag == "button" else _type(node)
    return node.tag in ("button", "input") and type == "submit"


def _type(node: LexborNode) -> str:
    return (node.attributes.get("type") or "text").lower()


def _kept(node: LexborNode, text: str) -> str:
    return kept("textarea" if node.tag == "textarea" else _type(node), text)


def _words(text: str) -> str:
    return " ".join(text.split())
