"""One tab of the parser engine: a document, and the history that led to it."""

from dataclasses import dataclass, replace

from .document import Document, Submission, join
from .effects import no_page
from .grammar import Do, Go
from .network import Network
from .page import Element

HERE = ("", "_self", "_top", "_parent")  # targets of a link that stays in its tab


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the history; entries with the same ``document`` differ only in the part that they point to."""

    url: str
    document: int


class Tab:
    """A tab that opens with ``url`` and no history before it."""

    def __init__(self, network: Network, url: str) -> None:
        self._network = network
        self._history: list[_Entry] = []
        self._at = -1
        self._count = 1  # of documents loaded
        url = network.own(url)
        self.document = network.load(url) or Document("", url)
        self._enter(self._count, over=False)

    def do(self, command: Do, element: Element | None) -> None:
        """Carry out what is no going back or forward; Hover, Right Click, Scroll and Wait do nothing here."""
        document = self.document
        if command.action == "Press Enter":
            element = document.page.element(document.focused) if document.focused else None
            if element:
                self._submit(element)
        elif element is None:
            return
        elif command.action == "Click":
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

    def elsewhere(self, element: Element) -> str:
        """Where a link leads that opens in another tab; "" for every other element."""
        attributes = self.document.node(element).attributes
        if element.kind != "link" or (attributes.get("target") or "").lower() in HERE:
            return ""
        return self._network.own(join(self.document.url, attributes["href"] or ""))

    def go(self, command: Go) -> None:
        """One page back or forward; raises ActionError at the end of the history."""
        to = self._at + (1 if command.forward else -1)
        if not 0 <= to < len(self._history):
            raise no_page(command)
        left, entry = self._history[self._at], self._history[to]
        if entry.document == left.document:
            self.document.url = entry.url
        else:
            document = self._network.load(entry.url)
            if document is None:
                return
            self.document = document
            self._history[to] = replace(entry, url=document.url)
        self._at = to

    def _submit(self, element: Element) -> None:
        sent = self.document.submission(element)
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
        url, now = self._network.own(join(self.document.url, href)), self.document.url
        if "#" in url and url.split("#")[0] == now.split("#")[0]:
            self.document.url = url
            self._enter(self._history[self._at].document, over=url == now)
        else:
            self._visit(url, over=url == now)

    def _visit(self, url: str, posted: Submission | None = None, *, over: bool = False) -> None:
        """Load ``url`` as a new entry of the history, or ``over`` the present one."""
        document = self._network.load(self._network.own(url), posted)
        if document is None:
            return
        self.document = document
        self._count += 1
        self._enter(self._count, over=over)

    def _enter(self, document: int, *, over: bool) -> None:
        if not over:
            self._at += 1
            del self._history[self._at :]
            self._history.append(_Entry("", 0))
        self._history[self._at] = _Entry(self.document.url, document)
