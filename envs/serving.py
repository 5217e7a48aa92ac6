"""What every HTTP server here has in common: the socket that it listens on, and how it speaks over it."""

import socket
from typing import Any

import uvicorn

from .errors import UsageError


def listen(host: str, port: int = 0) -> socket.socket:
    """A socket that listens; port 0 is one of the system's choice. Raises UsageError when it cannot."""
    if not 0 <= port <= 65535:  # the resolver would take it modulo 65536
        raise UsageError(f"a port is from 0 to 65535, not {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # The protocol is named because asyncio turns Nagle's algorithm off only for sockets that name it: otherwise
        # every response of two writes waits 40 ms for a delayed acknowledgement.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended do not count
            listener.bind(address)
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"cannot serve at {host} port {port}: {why}; name another host or port") from error
    return listener


def spoken(app: Any, **more: Any) -> uvicorn.Config:
    """How uvicorn serves the ASGI application ``app``: HTTP/1.1 alone, without a log; ``more`` are its own options."""
    return uvicorn.Config(
        app, interface="asgi3", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, **more,
    )  # fmt: skip


def run(config: uvicorn.Config, listener: socket.socket) -> None:
    """Serve until SIGINT."""
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # how this ends
