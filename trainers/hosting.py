"""Models behind a url: what must be said of one, what would do nothing, and what it used."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..agents.endpoint import Endpoint, Price, Spent
from ..agents.hosted import Hosted, served
from ..envs import UsageError
from .report import Usage

TIMEOUT = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class Host:
    """A model at an endpoint, as worker processes are told of it; ``rate`` is of one process."""

    url: str
    model: str
    key: str = ""
    timeout: float = TIMEOUT
    rate: float = 0.0
    price: Price | None = None

    def endpoint(self) -> Endpoint:
        """Raises UsageError like ``Endpoint``."""
        return Endpoint(self.url, key=self.key, timeout=self.timeout, rate=self.rate)

    def hosted(self) -> Hosted:
        """Raises UsageError like ``Endpoint``."""
        return Hosted(self.endpoint(), self.model)

    def usage(self, spent: Spent) -> Usage:
        """What all processes together have spent."""
        cost = replace(spent, price=self.price).cost if self.price else None
        return Usage(spent.requests, spent.retries, spent.read, spent.written, cost)


def is_url(agent: str) -> bool:
    return agent.startswith(("http://", "https://"))


def find(agent: str, workers: int, said: Mapping[str, Any], usual: Mapping[str, Any]) -> Host | None:
    """The model at the url ``agent``, whose endpoint is asked for its name; None when ``agent`` is no url.

    ``said`` are the options served, key, timeout, rate, prices and device, ``usual`` their defaults; ``rate`` is shared
    among ``workers``. Raises UsageError for options that would do nothing or cannot be, and for a model that is not
    there; AgentError when the endpoint does not answer.
    """
    given = {name for name in said if said[name] != usual[name]}
    if not is_url(agent):
        if idle := sorted(given - {"device"}):
            names = ", ".join(f"--{name}" for name in idle)
            raise UsageError(f"{names} would do nothing: the agent {agent} is no endpoint, such as http://HOST/v1")
        return None
    if "device" in given:
        raise UsageError(f"--device would do nothing: the model at {agent} computes where it is served")
    prices = said["prices"]
    if len(prices) not in (0, 2) or any(price < 0 for price in prices):
        raise UsageError("--prices wants two numbers of at least 0, of a million tokens read and written: 0.5,1.5")
    price = Price(*prices) if prices else None
    host = Host(agent, said["served"], said["key"], said["timeout"], said["rate"] / max(1, workers), price)
    return replace(host, model=asyncio.run(_served(host)))


async def _served(host: Host) -> str:
    async with host.endpoint() as endpoint:
        return await served(endpoint, host.model)
