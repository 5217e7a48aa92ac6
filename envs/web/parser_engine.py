"""The fast engine: requests in process, pages by lexbor, no JavaScript and no drawing."""

import secrets
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx

from ..errors import ActionError, EnvError, UsageError
from .document import Document, Submission
from .effects import check, no_page
from .engine import Site
from .grammar import Do, Go
from .page import Element, Page
from .transport import InProcess

T = TypeVar("T")
_MAX_REDIRECTS = 10
_FORM = {"content-type": "application/x-www-form-urlencoded"}


class ParserEngine:
    """An Engine without a browser; each ``open`` gets a fresh origin, history and database."""

    def __init__(self) -> None:
        self._site: Site | None = None
        self._history: list[str] = []
        self._at = -1

    def open(self, make: Callable[[], Site], path: str) -> Page:
        self.close()
        self._site = make()
        self._transport = InProcess(self._site)
        self._history, self._at = [], -1
        self._visit(urljoin(f"http://{secrets.token_hex(4)}.localhost/", path))
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
                self._visit(urljoin(document.url, document.node(element).attributes["href"] or ""))
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
        self._at = to
        self._document = self._load(httpx.Request("GET", self._history[to]))

    def _submit(self, element: Element) -> None:
        sent = self._document.submission(element)
        if sent is None:
            return
        if sent.method == "post":
            self._visit(sent.url, sent)
        else:
            self._visit(f"{sent.url}?{sent.fields}")

    def _visit(self, url: str, posted: Submission | None = None) -> None:
        """Load ``url`` as a new entry of the history; the same URL again replaces its entry, as in a browser."""
        if self._history and httpx.URL(url).netloc != httpx.URL(self._history[self._at]).netloc:
            raise ActionError("that leads away from the site and is blocked")
        same = self._history and url == self._history[self._at] and posted is None
        if posted:
            request = httpx.Request("POST", url, content=posted.fields.encode(), headers=_FORM)
        else:
            request = httpx.Request("GET", url)
        self._document = self._load(request)
        if not same:
            del self._history[self._at + 1 :]
            self._history.append(self._document.url)
            self._at += 1
        self._history[self._at] = self._document.url

    def _load(self, request: httpx.Request) -> Document:
        for _ in range(_MAX_REDIRECTS):
            response = self._transport.handle_request(request)
            if not response.has_redirect_location:
                return Document(response.text, str(request.url))
            target = urljoin(str(request.url), response.headers["location"])
            request = httpx.Request("GET", target)
        raise EnvError(f"{request.url.path} redirects more than {_MAX_REDIRECTS} times")
