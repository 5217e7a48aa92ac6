"""The fast engine: requests in process, pages by lexbor, no JavaScript and no drawing."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx

from ..errors import ActionError, EnvError, UsageError
from .document import Document, Submission, join
from .effects import AWAY, check, no_page
from .engine import Site
from .grammar import Do, Go
from .page import Element, Page
from .transport import InProcess

T = TypeVar("T")
_MAX_REDIRECTS = 10
_FORM = {"content-type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the history; entries with the same ``document`` differ only in the part that they point to."""

    url: str
    document: int


class ParserEngine:
    """An Engine without a browser; each ``open`` gets a fresh origin, history and database."""

    def __init__(self) -> None:
        self._site: Site | None = None
        self._history: list[_Entry] = []
        self._at = -1
        self._count = 0  # of documents loaded

    def open(self, make: Callable[[], Site], path: str) -> Page:
        self.close()
        self._site = make()
        self._transport = InProcess(self._site)
        self._history, self._at = [], -1
        self._document = Document("", f"http://{secrets.token_hex(4)}.localhost/")  # a blank one, to start from
        self._visit(join(self._document.url, path))
        return self._document.page

    def act(self, command: Do | Go) -> Page:
        element = check(command, self._document.page)
        if isinstance(command, Go):
            self._go(command)
        elif command.action == "Press Enter":
            focused = self._document.focused
            found = self._document.page.element(focused) if focused else None
            if found:
                self._submit(found)
        elif element is not None:
            self._do(command, element)
        return self._document.page

    def query(self, ask: Callable[[Any], T]) -> T:
        return ask(self._site)

    def screenshot(self) -> bytes:
        raise UsageError("the parser engine draws nothing; use engine='browser' for pictures")

    def close(self) -> None:
        if self._site is not None:
            self._site.close()
            self._site = None

    def _do(self, command: Do, element: Element) -> None:
        document = self._document
        if command.action == "Click":
            if element.kind == "link":
                self._follow(document.node(element).attributes["href"] or "")
            elif element.kind == "button":
                self._submit(element)
            else:
                document.focused = element.id
        elif command.action in ("Type", "Search"):
            document.set(element, command.argument)
            document.focused = element.id
            if command.action == "Search":
                self._submit(element)
        elif command.action == "Select Dropdown Option":
            document.set(element, command.argument)

    def _go(self, command: Go) -> None:
        to = self._at + (1 if command.forward else -1)
        if not 0 <= to < len(self._history):
            raise no_page(command)
        left, entry = self._history[self._at], self._history[to]
        if entry.document == left.document:
            self._document.url = entry.url
        else:
            self._document = self._load(httpx.Request("GET", entry.url))
            self._history[to] = replace(entry, url=self._document.url)
        self._at = to

    def _submit(self, element: Element) -> None:
        sent = self._document.submission(element)
        if sent is None:
            return
        if sent.method == "post":
            self._visit(sent.url, sent)
        else:
            self._visit(f"{sent.url}?{sent.fields}")

    def _follow(self, href: str) -> None:
        """Follow a link.

        What Chromium does, by trial: a link to the very URL that is shown replaces its entry of the history,
        wherever the request is then redirected to, and a link into the page shown makes an entry without a
        request. Everything else makes a new entry, even when it ends at the same URL: a form's GET, a POST that
        answers itself, a POST or a link that is redirected back.
        """
        url, now = self._own(join(self._document.url, href)), self._document.url
        if "#" in url and url.split("#")[0] == now.split("#")[0]:
            self._document.url = url
            self._enter(self._history[self._at].document, over=url == now)
        else:
            self._visit(url, over=url == now)

    def _visit(self, url: str, posted: Submission | None = None, *, over: bool = False) -> None:
        """Load ``url`` as a new entry of the history, or ``over`` the present one."""
        url = self._own(url)
        if posted:
            request = httpx.Request("POST", url, content=posted.fields.encode(), headers=_FORM)
        else:
            request = httpx.Request("GET", url)
        self._document = self._load(request)
        self._count += 1
        self._enter(self._count, over=over)

    def _enter(self, document: int, *, over: bool) -> None:
        if not over:
            self._at += 1
            del self._history[self._at :]
            self._history.append(_Entry("", 0))
        self._history[self._at] = _Entry(self._document.url, document)

    def _own(self, target: str) -> str:
        """The URL as a browser spells it; raises ActionError when it leads away from the site."""
        try:
            url = httpx.URL(target)
        except httpx.InvalidURL as error:
            raise ActionError(AWAY) from error
        if url.netloc != httpx.URL(self._document.url).netloc or url.scheme != "http":
            raise ActionError(AWAY)
        front, mark, query = str(url).partition("?")
        return front + mark + query.replace("'", "%27")

    def _load(self, request: httpx.Request) -> Document:
        for _ in range(_MAX_REDIRECTS):
            response = self._transport.handle_request(request)
            if not response.has_redirect_location:
                return Document(response.text, str(request.url))
            target = join(str(request.url), response.headers["location"])
            request = httpx.Request("GET", self._own(target))
        raise EnvError(f"{request.url.path} redirects more than {_MAX_REDIRECTS} times")
