"""Requests in process: a site sees what it would see from a socket, and what goes wrong is an EnvError."""

import asyncio
from encodings import aliases

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from turngym.envs import AgentError, EnvError
from turngym.envs.web.engine import Receive, Scope, Send
from turngym.envs.web.transport import Answer, InProcess, ask


class Echo:
    """Answers with what it was asked."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        told = {
            "method": request.method,
            "path": request.url.path,
            "query": str(request.query_params),
            "host": request.headers["host"],
            "type": request.headers.get("content-type", ""),
            "body": (await request.body()).decode(),
            "raw": scope["raw_path"].decode(),
        }
        await JSONResponse(told, 201, {"x-a": "1"})(scope, receive, send)

    def state(self) -> None:
        return None

    def close(self) -> None:
        pass


class Odd(Echo):
    """Does what its path says."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/turn":
            await asyncio.sleep(0)
        if path == "/sleep":
            await asyncio.sleep(1)
        if path == "/raise":
            raise ValueError("a bug of the site")
        if path == "/failure":
            raise AgentError("an agent inside the site")
        if path != "/silent":
            body = HTMLResponse("caf\xe9".encode("latin-1"), headers={"content-type": "text/html; charset=latin-1"})
            answer: Response = body if path == "/latin" else Response(status_code=204)
            await answer(scope, receive, send)


def test_a_request_arrives_whole() -> None:
    with httpx.Client(transport=InProcess(Echo()), base_url="http://t.localhost:81") as client:
        response = client.post("/a%20b/ä?q=1&r=x+y", data={"name": "Ada L"}, headers={"X-Any": "é".encode()})
    assert (response.status_code, response.headers["x-a"]) == (201, "1")
    assert response.json() == {
        "method": "POST",
        "path": "/a b/ä",
        "raw": "/a%20b/%C3%A4",
        "query": "q=1&r=x+y",
        "host": "t.localhost:81",
        "type": "application/x-www-form-urlencoded",
        "body": "name=Ada+L",
    }


def test_responses_keep_their_encoding() -> None:
    response = InProcess(Odd()).handle_request(httpx.Request("GET", "http://t.localhost/latin"))
    assert response.text == "café"
    assert InProcess(Odd()).handle_request(httpx.Request("GET", "http://t.localhost/empty")).status_code == 204


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/turn", "/turn waits for something outside; serve this site to a browser instead"),
        ("/sleep", "the site failed at /sleep: RuntimeError: no running event loop"),
        ("/raise", "the site failed at /raise: ValueError: a bug of the site"),
        ("/silent", "the site answered nothing at /silent"),
    ],
)
def test_a_site_that_cannot_be_served_is_an_env_error(path: str, said: str) -> None:
    with pytest.raises(EnvError) as caught:
        InProcess(Odd()).handle_request(httpx.Request("GET", f"http://t.localhost{path}"))
    assert str(caught.value) == said


def test_a_failure_inside_a_site_keeps_its_kind() -> None:
    with pytest.raises(AgentError):
        InProcess(Odd()).handle_request(httpx.Request("GET", "http://t.localhost/failure"))


def test_asking_needs_no_client() -> None:
    headers = [(b"content-type", b"text/plain"), (b"x-b", b"2")]
    answer = ask(Echo(), "POST", "t.localhost", b"/a%20b/%C3%A4", b"q=1&r=x+y", headers, b"body")
    with httpx.Client(transport=InProcess(Echo()), base_url="http://t.localhost") as client:
        same = client.post("/a%20b/ä?q=1&r=x+y", content="body", headers={"content-type": "text/plain"})
    assert (answer.status, answer.body) == (same.status_code, same.content)
    assert answer.header(b"x-a") == "1" and answer.header(b"x-none") is None
    assert ask(Odd(), "GET", "t.localhost", b"/empty", b"", []).body == b""


def test_headers_are_found_whatever_their_case_and_the_first_of_equals() -> None:
    class Shouting(Echo):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"X-A", b"1"), (b"x-a", b"2"), (b"Content-Type", b"text/html; charset=latin-1")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"caf", "more_body": True})
            await send({"type": "http.response.body", "body": b"\xe9"})

    answer = ask(Shouting(), "GET", "t.localhost", b"/", b"", [])
    assert (answer.header(b"x-a"), answer.text) == ("1", "café")


def texts(body: bytes, kind: str | None) -> str:
    return Answer(200, [] if kind is None else [(b"content-type", kind.encode("latin-1"))], body).text


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (None, "café".encode(), "café"),
        ("text/html", "café".encode(), "café"),
        ("text/html; charset=UTF-8", "café".encode(), "café"),
        ("text/html; charset=latin-1", b"caf\xe9", "café"),
        ("text/html;CHARSET='iso-8859-1'; x=y", b"caf\xe9", "café"),
        ('text/html; charset="windows-1252"', b"\x80", "€"),
        ("text/html; charset=utf-16", "café".encode("utf-16"), "café"),
        ("text/html; charset=", "café".encode(), "café"),
        ("text/html; charset=klingon", "café".encode(), "café"),
        ("text/html; charset=caf\xe9", "café".encode(), "café"),
        ("text/html; charset=rot13", "café".encode(), "café"),
        ("text/html", b"caf\xe9!", "caf\ufffd!"),
        ("text/html; charset=ascii", b"caf\xe9!", "caf\ufffd!"),
    ],
)
def test_text_is_in_the_charset_that_is_named_else_in_utf_8(kind: str | None, body: bytes, text: str) -> None:
    assert texts(body, kind) == text


def test_no_charset_is_a_failure() -> None:
    for charset in ("idna", "undefined", *aliases.aliases.values()):
        assert isinstance(texts(b"caf\xe9 \\d" + bytes(range(256)), f"text/html; charset={charset}"), str)
    assert texts("café".encode(), "text/html; charset=undefined") == "café"
