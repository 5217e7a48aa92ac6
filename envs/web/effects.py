"""What every engine agrees on before it acts: which actions are possible, and what a text box keeps."""

import re

from ..errors import ActionError
from .engine import TABS
from .grammar import ON_PAGE, Do, Go
from .page import Element, Page

AWAY = "that leads away from the site and is blocked"  # the error of leaving the episode's origin
DOWNLOAD = "that is a download and is refused"
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


class Noted(ActionError):
    """The action was carried out, and ``page`` is how the page is now; but it tried something that it may not do."""

    def __init__(self, text: str, page: Page) -> None:
        super().__init__(text)
        self.page = page


def check(command: Do | Go, page: Page) -> Element | None:
    """The element that ``command`` is about, or None; raises ActionError when the page cannot do it.

    Whether there is a page to go to is the engine's own knowledge: see ``no_page``.
    """
    if isinstance(command, Go) or command.action in ON_PAGE:
        return None
    if command.action == "Switch Tab":
        if int(command.argument) >= max(1, len(page.tabs)):
            raise ActionError(f"there is no tab {command.argument}")
        return None
    found = page.element(command.element or 0)
    if found is None:
        raise no_element(command)
    if command.action in ("Type", "Search") and found.kind != "textbox":
        raise ActionError(f"{command.action} wants a text box; {found.name} is a {found.kind}")
    if command.action == "Select Dropdown Option":
        if found.kind != "select":
            raise ActionError(f"{command.action} wants a select; {found.name} is a {found.kind}")
        if command.argument not in found.options:
            raise ActionError(f"{found.name} has no option {command.argument}")
    return found


def no_element(command: Do) -> ActionError:
    """The error of a number that is not, or no longer, on the page."""
    return ActionError(f"there is no element [{command.element}] on this page")


def no_page(command: Go) -> ActionError:
    """The error of going past an end of the history."""
    return ActionError(f"there is no page to go {'forward' if command.forward else 'back'} to")


def room(tabs: int) -> None:
    """Raises ActionError when an episode with so many tabs may not open another."""
    if tabs >= TABS:
        raise ActionError(f"there is no room for another tab: {TABS} are open")


def kept(type: str, text: str) -> str:
    """What a control keeps of ``text``, as HTML's value sanitization has it.

    ``type`` is ``textarea`` or an input's type: a text area keeps its lines, an input loses its line breaks,
    and a number input that is not given a number is empty.
    """
    if type == "textarea":
        return text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace("\r", "").replace("\n", "")
    if type == "number" and not _NUMBER.fullmatch(text):
        return ""
    return text
