"""One HTTP request as this server's and the proxy's handlers have it: its JSON, and whether its client still waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from .wire import Rejected


async def body(request: Request) -> Any:
    """Raises Rejected for what is no JSON, or does not come to its end."""
    try:
        return await request.json()
    except (ValueError, RecursionError) as error:
        raise Rejected(f"the body is no JSON: {error}") from error
    except ClientDisconnect as error:
        raise Rejected("the client left before its request was whole") from error


@asynccontextmanager
async def listening(receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
    """A task that is done when the client has left; the request's body must have been read before."""

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(listen())
    try:
        yield gone
    finally:
        gone.cancel()
