"""Requests to a site in process, without sockets, threads or an event loop; also as an httpx transport."""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx

from ..errors import EnvError, Failure
from .engine import Scope, Site

Headers = list[tuple[bytes, bytes]]
_CHARSET = re.compile(r"charset=[\"']?([\w.:-]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a site answered; the names of ``headers`` are in lower case."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> str | None:
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)

    @property
    def text(self) -> str:
        """The body in the charset that it names, else in UTF-8."""
        named = _CHARSET.search(self.header(b"content-type") or "")
        try:
            return self.body.decode(named[1] if named else "utf-8", "replace")
        except (LookupError, UnicodeError):  # some of Python's charsets replace nothing
            return self.body.decode("utf-8", "replace")


def ask(site: Site, method: str, host: str, path: bytes, query: bytes, headers: Headers, body: bytes = b"") -> Answer:
    """One request; ``path`` is percent-encoded.

    The coroutine of the site is driven by hand: the embedded sites await nothing but their own request and response,
    so it runs to its end in one go. Raises EnvError for a site that waits for anything else, fails, or answers
    nothing.
    """
    name, sent = unquote(path.decode("ascii")), list[MutableMapping[str, Any]]()
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "headers": [(b"host", host.encode("ascii")), *headers],
        "scheme": "http",
        "path": name,
        "raw_path": path,
        "query_string": query,
        "server": (host.partition(":")[0], 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
        "state": {},
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    try:
        site(scope, receive, send).__await__().send(None)
    except StopIteration:
        pass
    except Failure:
        raise
    except Exception as error:
        raise EnvError(f"the site failed at {name}: {type(error).__name__}: {error}") from error
    else:
        raise EnvError(f"{name} waits for something outside; serve this site to a browser instead")
    if not sent:
        raise EnvError(f"the site answered nothing at {name}")
    start = sent[0]
    found = [(key.lower(), value) for key, value in start.get("headers", ())]
    return Answer(start["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))


class InProcess(httpx.BaseTransport):
    """``httpx.Client(transport=InProcess(site))`` speaks to ``site``; raises what ``ask`` raises."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path, _, query = request.url.raw_path.partition(b"?")
        headers = [(k.lower(), v) for k, v in request.headers.raw if k.lower() != b"host"]
        answer = ask(self.site, request.method, request.headers["host"], path, query, headers, request.read())
        return httpx.Response(answer.status, headers=answer.headers, content=answer.body)
