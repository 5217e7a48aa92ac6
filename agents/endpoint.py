"""A server of the OpenAI kind, over httpx: retries with jitter, limits on rate and time, and what it cost."""

import asyncio
import json
import os
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx

from ..envs import AgentError, UsageError

AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})  # answers after which it is worth to ask again
KEPT = 2.0  # seconds that a connection lies idle: uvicorn closes its own after 5, and who asks just then gets nothing
SHOWN = 300  # characters of a server's own words in a message


class Refused(AgentError):
    """The server answered that it will not: ``status`` says how."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to ask, and how long to wait between: evenly from 0 to ``first`` seconds, twice that each time, at
    most ``longest``. A server that says when to come back is believed, up to ``longest``."""

    attempts: int = 5
    first: float = 0.5
    longest: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first < 0 or self.longest < self.first:
            raise UsageError(f"{self}: at least one attempt, and waits that are not negative")


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in any one currency."""

    read: float = 0.0
    written: float = 0.0


@dataclass(slots=True)
class Spent:
    """What an endpoint was asked and has said that it used."""

    requests: int = 0  # that were answered
    retries: int = 0
    read: int = 0  # tokens of prompts
    written: int = 0  # tokens of answers
    price: Price = field(default_factory=Price)

    @property
    def cost(self) -> float:
        """In the price's currency."""
        return (self.read * self.price.read + self.written * self.price.written) / 1e6

    def add(self, usage: object) -> None:
        """By the ``usage`` of an answer; what is none counts nothing."""
        said = usage if isinstance(usage, Mapping) else {}
        self.read += _count(said, "prompt_tokens")
        self.written += _count(said, "completion_tokens")

    def beside(self, other: "Spent") -> "Spent":
        """Both together, at this one's price."""
        return Spent(
            self.requests + other.requests,
            self.retries + other.retries,
            self.read + other.read,
            self.written + other.written,
            self.price,
        )


class Endpoint:
    """JSON to and from the server at ``url``, for instance http://127.0.0.1:8000/v1.

    Args:
        key: the environment variable that holds the key; keys are never options, and never in a message.
        timeout: seconds in which a server may say nothing, 0 for no limit.
        rate: requests begun a second, 0 for no limit.
        parallel: requests under way at once.
        seed: of the jitter between attempts.

    May be used from one event loop after the other; ``close`` before the loop ends, or ``async with``. Raises
    UsageError for a url that is none and for a key that the environment lacks or that no header can hold.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str = "",
        timeout: float = 600.0,
        retry: Retry = Retry(),
        rate: float = 0.0,
        parallel: int = 256,
        price: Price = Price(),
        seed: int = 0,
    ) -> None:
        host, self._key = _host(url), _secret(key, url) if key else ""
        if rate < 0 or parallel < 1 or timeout < 0:
            raise UsageError("an endpoint wants a rate and a timeout of at least 0, and at least 1 request at once")
        self.url, self.retry, self.spent = url.rstrip("/"), retry, Spent(price=price)
        self._headers = {"Authorization": f"Bearer {self._key}"} if key else {}
        self._timeout, self._rate, self._parallel = timeout or None, rate, parallel
        self._jitter, self._next = random.Random(seed), 0.0
        self._proxied = host not in ("localhost", "127.0.0.1", "::1")  # a proxy does not know this machine's ports
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None
        self._room = asyncio.Semaphore(parallel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer's JSON object. Raises Refused for an answer of another status, AgentError for none that can be
        read, each after all attempts that are worth it."""
        return await self._ask("POST", path, body)

    async def get(self, path: str) -> dict[str, Any]:
        """Like ``post``."""
        return await self._ask("GET", path, None)

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        where, last = f"{self.url}{path}", self.retry.attempts - 1
        for attempt in range(self.retry.attempts):
            try:
                async with self._slot() as client:
                    answer = await client.request(method, where, json=body)
            except httpx.HTTPError as error:
                if attempt == last:
                    late = isinstance(error, httpx.TimeoutException)
                    why = f"nothing came for {self._timeout:g} s" if late else self.hidden(str(error))
                    why = why or type(error).__name__
                    raise AgentError(f"{method} {where}: {why}; asked {attempt + 1} times") from error
                await self._wait(attempt, None)
                continue
            if answer.is_success:
                return self._read(method, where, answer)
            if attempt == last or answer.status_code not in AGAIN:
                said = f"{method} {where}: {answer.status_code}: {self.hidden(_words(answer))[:SHOWN]}"
                raise Refused(f"{said}; asked {attempt + 1} times" if attempt else said, answer.status_code)
            await self._wait(attempt, answer.headers.get("Retry-After"))
        raise AssertionError("the last attempt returns or raises")

    def _read(self, method: str, where: str, answer: httpx.Response) -> dict[str, Any]:
        try:
            said = answer.json()
        except (ValueError, RecursionError) as error:
            raise AgentError(f"{method} {where}: the answer is no JSON: {self._start(answer)}") from error
        if not isinstance(said, dict):
            raise AgentError(f"{method} {where}: the answer is no JSON object: {self._start(answer)}")
        self.spent.requests += 1
        self.spent.add(said.get("usage"))
        return said

    def _start(self, answer: httpx.Response) -> str:
        return repr(self.hidden(answer.text)[:SHOWN])

    def hidden(self, text: str) -> str:
        """Without the key, which a server may repeat."""
        return text.replace(self._key, "***") if self._key else text

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of this loop, once it is this request's turn."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            limits = httpx.Limits(max_connections=self._parallel, keepalive_expiry=KEPT)
            self._client = httpx.AsyncClient(
                headers=self._headers, timeout=self._timeout, limits=limits, trust_env=self._proxied
            )
            self._loop, self._room = loop, asyncio.Semaphore(self._parallel)
        async with self._room:
            if self._rate:
                now = time.monotonic()
                self._next = max(self._next, now) + 1 / self._rate
                await asyncio.sleep(self._next - 1 / self._rate - now)
            yield self._client

    async def _wait(self, attempt: int, said: str | None) -> None:
        self.spent.retries += 1
        most = min(self.retry.longest, self.retry.first * 2.0**attempt)
        asked = _seconds(said)
        await asyncio.sleep(self._jitter.uniform(0.0, most) if asked is None else min(asked, self.retry.longest))


def _host(url: str) -> str:
    """Raises UsageError for what is no address of a server, and for one that holds more than an address."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    fits = parsed.port is None or 0 < parsed.port < 65536
    if parsed.scheme not in ("http", "https") or not parsed.host or not fits:
        raise UsageError(f"{_bare(url)!r} is no endpoint: give a url such as http://127.0.0.1:8000/v1")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise UsageError(
            f"{_bare(url)} with a name, a key or a query in it: give the address alone, and the key by the name of the"
            " environment variable that holds it"
        )
    return parsed.host


def _bare(url: str) -> str:
    """Without what may be secret in it."""
    return re.sub(r"[?#].*", "", re.sub(r"//[^/]*@", "//", url))


def _secret(key: str, url: str) -> str:
    """What the variable ``key`` holds; raises UsageError for nothing, and for what no header can hold."""
    held = os.environ.get(key, "")
    if not held:
        raise UsageError(f"the environment has no {key}, which is to hold the key of {url}")
    if not re.fullmatch(r"[!-~]+", held):
        raise UsageError(f"{key} holds spaces, ends of lines or letters that no key of {url} can have: set it anew")
    return held


def _count(usage: Mapping[str, Any], name: str) -> int:
    """Tokens of a usage; 0 for what is no count."""
    said = usage.get(name)
    return max(0, said) if type(said) is int else 0


def _seconds(said: str | None) -> float | None:
    """Of a Retry-After header: a number of seconds, or a date."""
    if said is None:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _words(answer: httpx.Response) -> str:
    """What the server says of an error, in one line."""
    try:
        said = answer.json()
        error = said.get("error", said.get("detail", said)) if isinstance(said, dict) else said
        text = error.get("message", error) if isinstance(error, dict) else error
        text = text if isinstance(text, str) else json.dumps(text)
    except (ValueError, RecursionError):
        text = answer.text
    return " ".join(text.split()) or answer.reason_phrase
