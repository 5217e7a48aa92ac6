"""Sockets that listen; what speaks over them is tested by every server."""

import socket

import pytest

from turngym.envs.errors import UsageError
from turngym.envs.serving import listen


def test_it_listens_where_it_is_told() -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        with listen(host) as listener:
            assert listener.getsockname()[0] == host
            assert listener.proto == socket.IPPROTO_TCP  # or every answer waits 40 ms


def test_what_is_not_to_be_had_is_one_line() -> None:
    with listen("127.0.0.1") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot serve at 127.0.0.1 port {port}: .*; name another host or port"):
            listen("127.0.0.1", port)
    with pytest.raises(UsageError, match="from 0 to 65535, not 65536"):
        listen("127.0.0.1", 65536)
