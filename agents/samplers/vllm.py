"""A sampler over vLLM's servers: token ids in and out, each token with its log-probability and its version."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from ...envs import AgentError, UsageError
from ..core import ContextFull, Request, Sample
from ..endpoint import Endpoint, Refused, Retry
from .balance import Balance
from .vllm_weights import VllmWeights
from .vllm_wire import GENERATE, body, check, fits, limit, read

ONCE = Retry(attempts=1)  # another server, or the same one later, is asked instead
OURS = frozenset({400, 413, 422})  # the request's own fault: the server is well


@dataclass(slots=True)
class _Server:
    """What is known of one."""

    endpoint: Endpoint
    limit: int = 0  # tokens of its longest context; 0: not asked yet
    out: float = 0.0  # when it may be tried again; 0: it is well
    trying: bool = False  # one request is finding out


class VllmSampler:
    """Samples from the vLLM servers at ``urls`` (http://127.0.0.1:8000), which serve the same weights as ``model``.

    Args:
        key: the environment variable that holds the servers' key, if they want one.
        timeout: seconds in which an answer must come.
        patience: seconds for which a request looks for a server that answers, asking again with the same seed; 0:
            the first failure is the request's.
        again: seconds after which a server that failed is tried again, by one request.
        initial: the version of the weights that the servers started with; None: they must be given some first, and a
            server that still has those, because it was started again, is out until it is given the present ones.
        weights: who takes what is published here; without it ``publish`` is an error.

    The log-probabilities are the servers': ``--logprobs-mode processed_logprobs`` makes them those of the distribution
    sampled from. A cancelled request is cancelled at its server, which sees the connection close.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        model: str = "policy",
        key: str = "",
        timeout: float = 600.0,
        patience: float = 0.0,
        again: float = 5.0,
        initial: int | None = 0,
        weights: VllmWeights | None = None,
    ) -> None:
        if not urls:
            raise UsageError("the vLLM sampler wants the url of at least one server")
        self.model, self.patience, self.again, self.initial = model, patience, again, initial
        self.version, self._weights = initial or 0, weights
        self._servers = [_Server(Endpoint(url, key=key, timeout=timeout, retry=ONCE, parallel=4096)) for url in urls]
        self.balance = Balance(len(urls))
        self._told = tuple(range(len(urls)))
        self._closed = False

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Nothing: episodes do not wait for each other here."""
        yield

    async def __call__(self, request: Request) -> Sample:
        """Raises UsageError for what a server must not do, ContextFull for a context beyond the model's, AgentError
        when no server answers."""
        check(request)
        loop = asyncio.get_running_loop()
        last, why = loop.time() + self.patience, "every server is out"
        while True:
            if self._closed:
                raise AgentError("the sampler is closed")
            if live := self._live(loop.time()):
                try:
                    return await self._ask(self.balance.begin(request.session, request.ids, live), request)
                except (ContextFull, _Ours):
                    raise
                except AgentError as error:
                    why = str(error)
            if loop.time() >= last:
                raise AgentError(why)
            await asyncio.sleep(min(0.2, self.again) if not live else 0.0)

    def publish(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Gives all servers new weights, also while requests run; raises what the giver of weights raises."""
        if self._weights is None:
            raise UsageError("this sampler was made without weights=: whoever trains publishes to the servers")
        self._weights.publish(tensors, version)
        self.tell(version, self._weights.live)

    def tell(self, version: int, live: Sequence[int]) -> None:
        """The servers numbered ``live`` have the weights ``version``; the others are not asked."""
        self.version, self._told = version, tuple(live)
        for number in range(len(self._servers)):
            self.balance.forget(number)

    async def shut(self) -> None:
        """Closes the connections, which cancels what is under way; may be called twice."""
        self._closed = True
        await asyncio.gather(*(server.endpoint.close() for server in self._servers))

    def close(self) -> None:
        """Takes no more requests; connections are closed by ``shut``."""
        self._closed = True

    def _live(self, now: float) -> list[int]:
        servers = self._servers
        return [n for n in self._told if not servers[n].out or (now >= servers[n].out and not servers[n].trying)]

    async def _ask(self, number: int, request: Request) -> Sample:
        """Of the server ``number``, which was counted as busy."""
        server = self._servers[number]
        trial = bool(server.out)
        server.trying = server.trying or trial
        try:
            sample = await self._sample(server, request)
        except AgentError as error:
            if not isinstance(error, ContextFull | _Ours):
                self._lost(server, error)
            raise
        finally:
            self.balance.end(number)
            server.trying = server.trying and not trial
        if server.out:
            server.out = 0.0
            logging.getLogger("turngym").warning("server %s answers again", server.endpoint.url)
        return sample

    async def _sample(self, server: _Server, request: Request) -> Sample:
        where = server.endpoint.url
        if not server.limit:
            server.limit = limit(await server.endpoint.get("/v1/models"), self.model, where)
        fits(request, server.limit, where)
        try:
            answer = await server.endpoint.post(GENERATE, body(request, self.model))
        except Refused as error:
            if error.status in OURS:
                raise _Ours(str(error)) from error
            raise
        return read(answer, request, self.initial, where)

    def _lost(self, server: _Server, error: AgentError) -> None:
        """Leave it alone for a while; one line says why, until it has answered again."""
        if not server.out:
            logging.getLogger("turngym").warning("server %s is out: %s", server.endpoint.url, error)
        server.out, server.limit = asyncio.get_running_loop().time() + self.again, 0


class _Ours(AgentError):
    """A server's refusal of this one request."""
