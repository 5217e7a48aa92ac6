"""What the embedded applications share: pages from templates, answers that nobody keeps, a site around its database."""

from typing import Any, Generic, Protocol, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from .engine import Receive, Scope, Send

_HEADERS = {"cache-control": "no-store"}


class Database(Protocol):
    """One episode's data, in the thread that made it."""

    def state(self) -> Any: ...

    def status(self) -> Any:
        """What every page shows of the state."""
        ...

    def close(self) -> None: ...


D = TypeVar("D", bound=Database)


class Hosted(Generic[D]):
    """One episode's site: its database behind the application that all sites of its kind share."""

    def __init__(self, app: Starlette, store: D) -> None:
        self._app, self.store = app, store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["store"] = self.store
        await self._app(scope, receive, send)

    def state(self) -> Any:
        return self.store.state()

    def close(self) -> None:
        self.store.close()


class Pages:
    """Answers with pages made from the templates in the folder ``pages`` of ``package``."""

    def __init__(self, package: str) -> None:
        self._templates = Environment(
            loader=PackageLoader(package, "pages"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )

    def __call__(self, request: Request, name: str, title: str, status: int = 200, **values: Any) -> Response:
        shown = request.scope["store"].status()
        html = self._templates.get_template(name).render(title=title, status=shown, **values)
        return HTMLResponse(html, status, _HEADERS)


def go(path: str) -> Response:
    """The answer to a form: look there."""
    return RedirectResponse(path, 303, _HEADERS)


async def field(request: Request, name: str) -> str:
    """What a form says in that field, "" for nothing or a file."""
    async with request.form() as form:
        value = form.get(name, "")
        return value if isinstance(value, str) else ""
