"""A sampler without a network: the distribution is a function, for tests, for lessons and for simulated time."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from ..asked import check
from ..core import Finish, Request, Sample
from .draw import draw, numbers

Script = Callable[[tuple[int, ...], Mapping[str, Tensor]], Tensor]
"""Context ids and the published weights to the next token's logits [V]."""


class ScriptedSampler:
    """Samples from ``script``; ``seconds`` of (perhaps simulated) time pass a token, through ``asyncio.sleep``."""

    def __init__(self, script: Script, *, seconds: float = 0.0) -> None:
        self.script, self.seconds, self.version = script, seconds, 0
        self._weights: dict[str, Tensor] = {}

    async def __call__(self, request: Request) -> Sample:
        """Raises UsageError for what no in-process sampler can do."""
        check(request, "scripted")
        heat, uniform = torch.tensor([[request.temperature]]), torch.from_numpy(numbers(request, request.max_tokens))
        tokens, logps, versions = list[int](), list[float](), list[int]()
        finish: Finish = "length"
        for step in range(request.max_tokens):
            await asyncio.sleep(self.seconds)
            logits = self.script((*request.ids, *tokens), self._weights).float()
            chosen, logp = draw(logits[None], heat, uniform[step : step + 1])
            tokens.append(int(chosen))
            logps.append(float(logp))
            versions.append(self.version)
            if tokens[-1] in request.stop:
                finish = "stop"
                break
        return Sample(tuple(tokens), tuple(logps), tuple(versions), finish)

    def publish(self, tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """The next token, also of requests that run, is sampled from these weights."""
        self._weights, self.version = {name: tensor.clone() for name, tensor in tensors}, version
