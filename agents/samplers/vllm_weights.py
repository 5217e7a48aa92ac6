"""New weights for vLLM servers while they play, and the proof that they have them."""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...envs import AgentError, Failure, UsageError
from ..core import Request, Sample
from .transfer import BACKENDS, EngineTransfer, FileTransfer, Shelf, Transfer
from .vllm_control import Calls, Control
from .vllm_wire import TORN

Tell = Callable[[int, tuple[int, ...]], None]


class Disagreement(Failure):
    """A server and the trainer give the same token other log-probabilities: nothing may be learned from it."""

    outcome = "agent_error"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a server is asked after each update: one token for each of ``requests``, each at most ``tolerance`` nats and
    all in the mean at most ``mean`` from ``trained``, the trainer's log-probabilities [V] of the next token at the
    request's temperature."""

    requests: tuple[Request, ...]
    trained: Callable[[Request], Tensor]
    tolerance: float
    mean: float = math.inf  # of the absolute differences


class VllmWeights:
    """Publishes to the servers at ``urls``: pause, update, name, empty the prefix cache, resume, on all at once.

    Args:
        folder: for the file backend, on a disk that the servers see.
        model: the name that they serve.
        backend: "file", "nccl" or "ipc", as the servers were started with.
        key: the environment variable that holds the servers' key.
        timeout: seconds that a server may take for one call.
        probe: without one nothing is compared.
        device: the GPU that nccl and ipc send from.

    What runs at a server goes on after the update with not a token lost; it reads its context again, so each token's
    log-probability is the one that its version gives. ``live`` are the numbers of the servers that have the present
    weights and agree on them; one that fails leaves it, and ``heal`` brings it back. ``tell`` hears version and
    ``live`` after every ``publish`` and whenever ``live`` changes, in that order; it must call nothing here.
    Weights travel under their number in decimal.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        folder: Path,
        model: str = "policy",
        backend: str = "file",
        key: str = "",
        timeout: float = 120.0,
        probe: Probe | None = None,
        device: str = "cpu",
    ) -> None:
        if backend not in BACKENDS:
            raise UsageError(f"no transfer {backend!r}; there are {', '.join(BACKENDS)}")
        self._calls = Calls()
        self.controls = [Control(url, self._calls, key=key, timeout=timeout) for url in urls]
        self.model, self.backend, self.probe, self.device = model, backend, probe, torch.device(device)
        self.version, self.live = 0, tuple(range(len(urls)))
        self.tell: Tell = lambda version, live: None
        self._round = 0  # of publishing: a version may come again, with other weights
        self._given = [0] * len(urls)  # the round whose weights a server had from us, and agreed on; 0: none
        self._shelf = Shelf(folder)
        self.torn = [False] * len(urls)  # an update failed half-way: only a new process helps
        self._held: dict[str, Tensor] = {}
        self._wanted: list[Tensor] = []  # of the probe, [V] each
        self._ways: dict[int, Transfer] = {}
        self._lock = threading.Lock()

    def publish(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """All live servers have these weights when it returns. Raises Disagreement, and AgentError when the first
        weights reach no server; a server that is out is left to ``heal``."""
        with self._lock:
            first = not self._held
            self._held, self.version, self._round = dict(tensors), version, self._round + 1
            if self.backend == "file":
                self._shelf.put(self._held, version)
            if self.probe:
                self._wanted = [self.probe.trained(request) for request in self.probe.requests]
            tried = self.live or tuple(n for n, torn in enumerate(self.torn) if not torn)
            with ThreadPoolExecutor(max(1, len(tried))) as pool:
                failed = dict(zip(tried, pool.map(self._tried, tried), strict=True))
            self.live = tuple(number for number in tried if failed[number] is None)
            self.tell(version, self.live)
        if first and not self.live:
            raise AgentError(f"no server took the run's first weights: {'; '.join(map(str, failed.values()))}")

    def heal(self) -> bool:
        """Look at every server, give the present weights to those that lack them; whether ``live`` has changed.

        A server plays nothing between its weights and the probe. Raises like ``publish``.
        """
        with self._lock:
            if not self._held:
                return False
            before, well = self.live, [number for number in range(len(self.controls)) if self._answers(number)]
            lacking = [number for number in well if not self._has(number)]
            self._now(number for number in well if number not in lacking)
            for number in lacking:
                self._ways.pop(number, None)  # another process may be there now, which has met nobody
            healed = [number for number in lacking if self._tried(number) is None]
            for number in healed:
                _say("server %s has been given version %d", self.controls[number].url, self.version)
            self._now(number for number in well if number in healed or number not in lacking)
            return self.live != before or bool(healed)

    def close(self) -> None:
        """Ends the connections and removes the file; may be called twice."""
        for control in self.controls:
            control.close()
        self.controls = []
        self._calls.close()
        self._shelf.clear()

    def _now(self, live: Iterable[int]) -> None:
        before, self.live = self.live, tuple(live)
        if self.live != before:
            self.tell(self.version, self.live)

    def _answers(self, number: int) -> bool:
        """Whether it can be given weights: one whose update failed must be started again first."""
        try:
            said = self.controls[number].version()
        except AgentError as error:
            if number in self.live:
                _say("server %s is out: %s", self.controls[number].url, error)
            return False
        self.torn[number] = self.torn[number] and said == TORN
        return not self.torn[number]

    def _has(self, number: int) -> bool:
        """Whether it was given the weights that there are now, and still calls them so: it is no other process."""
        if self._given[number] != self._round:
            return False
        try:
            return self.controls[number].version() == str(self.version)
        except AgentError:
            return False

    def _tried(self, number: int) -> AgentError | None:
        """None if it has the weights now and agrees on them."""
        try:
            self._renew(number)
            self._prove(number)
            self._given[number] = self._round
        except AgentError as error:
            self._ways.pop(number, None)
            _say("server %s did not take version %d: %s", self.controls[number].url, self.version, error)
            return error
        return None

    def _renew(self, number: int) -> None:
        """Once the update has begun, a failure leaves a model of which nothing is known: it must not play again."""
        control, torn = self.controls[number], False
        control.pause()
        try:
            if number not in self._ways:
                self._ways[number] = self._way(control)
            torn = True
            control.tear()
            self._ways[number].send(self._held, self.version)
            control.forget()
        except BaseException:
            self.torn[number] = torn
            with suppress(AgentError):
                control.stop() if torn else control.resume()
            raise
        self.torn[number] = False
        control.resume()

    def _way(self, control: Control) -> Transfer:
        if self.backend == "file":
            return FileTransfer(control, self._shelf)
        return EngineTransfer(control, self.backend, self._held, self.device)

    def _prove(self, number: int) -> None:
        """The probe."""
        if self.probe is None:
            return
        control = self.controls[number]
        where = f"server {control.url}"
        prove(self.probe, self._wanted, lambda request: control.sample(request, self.model), self.version, where)


def prove(probe: Probe, wanted: Sequence[Tensor], ask: Callable[[Request], Sample], version: int, where: str) -> None:
    """Puts the probe to what ``ask`` samples from; ``wanted``: the trainer's log-probabilities [V] of each request.

    Raises Disagreement beyond the tolerance, AgentError for a token of other weights.
    """
    gaps = list[float]()
    for request, logps in zip(probe.requests, wanted, strict=True):
        said = ask(request)
        if set(said.versions) != {version} or said.tokens[0] >= len(logps):
            raise AgentError(f"{where}: it samples {said}, not a token of version {version}")
        gaps.append(abs(said.logps[0] - float(logps[said.tokens[0]])))
    worst, mean = max(gaps), sum(gaps) / len(gaps)
    if not (worst <= probe.tolerance and mean <= probe.mean):
        raise Disagreement(
            f"{where} and the trainer disagree about version {version}: a log-probability differs by {worst:.3g},"
            f" allowed {probe.tolerance:.3g}; in the mean they differ by {mean:.3g}, allowed {probe.mean:.3g}; it must"
            " be the same model, with --logprobs-mode processed_logprobs,"
            " and in a precision that the tolerance allows"
        )


def probes(vocabulary: int, *, count: int = 8, longest: int = 32, temperature: float = 0.8) -> tuple[Request, ...]:
    """Requests for one token each after random ids; a temperature beside 1 finds log-probs that ignore it."""
    g = torch.Generator().manual_seed(0)
    sizes = [1 + n * (longest - 1) // max(1, count - 1) for n in range(count)]
    return tuple(
        Request(tuple(torch.randint(vocabulary, (size,), generator=g).tolist()), 1, (), temperature, seed=(n,))
        for n, size in enumerate(sizes)
    )


def next_token(model: torch.nn.Module) -> Callable[[Request], Tensor]:
    """The log-probabilities [V] of ``model``, a Hugging Face causal LM, for what follows a request's ids."""

    def trained(request: Request) -> Tensor:
        device, training = next(model.parameters()).device, model.training
        model.eval()
        try:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([request.ids], device=device)).logits[0, -1].float().cpu()
        finally:
            model.train(training)
        logp: Tensor = (logits / (request.temperature or 1.0)).log_softmax(-1)
        return logp

    return trained


def tied(config: object) -> None:
    """Raises UsageError for a model whose output weights are its embeddings."""
    if getattr(config, "tie_word_embeddings", False):
        raise UsageError(
            "this model ties its embeddings, and vLLM on a CPU goes on with the old output weights when they change,"
            " without a word: train an untied one (tie_word_embeddings false), or take the torch sampler"
        )


def _say(text: str, *values: object) -> None:
    logging.getLogger("turngym").warning(text, *values)
