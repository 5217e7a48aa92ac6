"""What tests of the proxy share: a sampler that writes what it is told, and clients of a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
from test_recording import prompter

from turngym.agents import Request, Sample
from turngym.agents.proxy import Episode, Proxy

Writes = Callable[[Request], str]


class Writer:
    """A sampler that writes what it is told to; while ``gate`` is closed, requests wait."""

    def __init__(self, writes: Writes = lambda request: "hello") -> None:
        self.writes, self.asked, self.cancelled = writes, list[Request](), 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, request: Request) -> Sample:
        self.asked.append(request)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        tokens = prompter("tooled").encode(self.writes(request))
        return Sample(tokens, (-0.5,) * len(tokens), (3,) * len(tokens), "stop")


@asynccontextmanager
async def served(writer: Any, **more: Any) -> AsyncIterator[tuple[Proxy, Episode, openai.AsyncOpenAI]]:
    async with Proxy(writer, prompter("tooled")) as proxy:
        episode = proxy.open(**more)
        async with client(proxy, episode) as asker:
            yield proxy, episode, asker


def client(proxy: Proxy, episode: Episode, **more: Any) -> openai.AsyncOpenAI:
    own = openai.DefaultAsyncHttpxClient(trust_env=False)
    return openai.AsyncOpenAI(base_url=proxy.url, api_key=episode.key, http_client=own, max_retries=0, **more)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def ask(asker: openai.AsyncOpenAI, *messages: Any, **more: Any) -> Any:
    return await asker.chat.completions.create(model="policy", messages=list(messages), **more)


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not done():
            await asyncio.sleep(0.01)


def run(main: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(main(), 120))
