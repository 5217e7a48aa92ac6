"""An httpx transport that calls a site in process, without sockets, threads or an event loop."""

from collections.abc import MutableMapping
from typing import Any

import httpx

from ..errors import EnvError, Failure
from .engine import Site


class InProcess(httpx.BaseTransport):
    """Drives the ASGI coroutine of ``site`` by hand.

    The embedded sites await nothing but their own request and response, so their coroutine runs to its end in one
    go. Raises EnvError for a site that waits for anything else, fails, or answers nothing.
    """

    def __init__(self, site: Site) -> None:
        self.site = site

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body, sent = request.read(), list[MutableMapping[str, Any]]()

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        running = self.site(_scope(request), receive, send)
        try:
            running.__await__().send(None)
        except StopIteration:
            pass
        except Failure:
            raise
        except Exception as error:
            raise EnvError(f"the site failed at {request.url.path}: {type(error).__name__}: {error}") from error
        else:
            raise EnvError(f"{request.url.path} waits for something outside; serve this site to a browser instead")
        if not sent:
            raise EnvError(f"the site answered nothing at {request.url.path}")
        start = sent[0]
        return httpx.Response(
            start["status"], headers=start["headers"], content=b"".join(m.get("body", b"") for m in sent[1:])
        )


def _scope(request: httpx.Request) -> dict[str, Any]:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(k.lower(), v) for k, v in request.headers.raw],
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.split(b"?")[0],
        "query_string": url.query,
        "server": (url.host, url.port),
        "client": ("127.0.0.1", 1),
        "root_path": "",
        "state": {},
    }
