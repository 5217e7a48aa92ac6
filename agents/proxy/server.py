"""The proxy: an application of episodes, served on loopback in the event loop that it is started in."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Self

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ...envs import UsageError
from ...envs.serving import listen, spoken
from ..chat import Decoding, Prompter
from ..core import Sampler
from .app import application
from .recording import SAMPLED, UNLIMITED, Budget, Episode

_KEEP_ALIVE = 300  # seconds that a connection may rest


class Proxy:
    """Serves ``sampler`` as the model of a server of the OpenAI kind; one key an episode.

    ::

        async with Proxy(sampler, prompter) as proxy:
            episode = proxy.open()
            ...  # an agent with base_url=proxy.url and api_key=episode.key
            turns = proxy.close(episode.key).turns()

    Raises UsageError when it cannot listen at ``host``.
    """

    def __init__(self, sampler: Sampler, prompter: Prompter, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.prompter, self._host, self._port = prompter, host, port
        self._episodes: dict[str, Episode] = {}
        self._app = application(self._episodes, sampler)
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The base_url of clients."""
        assert self._server is not None, "the proxy is not started"
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/v1"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen."""
        config = spoken(self._app, timeout_keep_alive=_KEEP_ALIVE)
        config.load()

        def connect() -> asyncio.Protocol:
            return H11Protocol(config=config, server_state=self._state, app_state={})

        listener = listen(self._host, self._port)
        self._server = await asyncio.get_running_loop().create_server(connect, sock=listener)

    async def stop(self) -> None:
        """End every episode and every connection; may be called twice."""
        for key in list(self._episodes):
            self.close(key)
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def open(
        self,
        *,
        decoding: Decoding = SAMPLED,
        seed: tuple[int, ...] = (0,),
        session: str = "",
        budget: Budget = UNLIMITED,
        doing: Callable[[str], None] = lambda what: None,
    ) -> Episode:
        """A new episode with a key of its own; for the rest see Episode."""
        key = f"episode-{secrets.token_urlsafe(24)}"
        episode = Episode(key, self.prompter, decoding=decoding, seed=seed, session=session, budget=budget, doing=doing)
        self._episodes[key] = episode
        return episode

    def close(self, key: str) -> Episode:
        """End the episode of ``key``: its record. Raises UsageError for a key that is not open."""
        if key not in self._episodes:
            raise UsageError(f"no episode of the key {key!r} is open here")
        episode = self._episodes.pop(key)
        episode.end()
        return episode
