"""The policy that a learner trains: its layers recomputed, its adapters, its shards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ..envs import UsageError
from .adapters import Adapters
from .forest import Forest
from .output import Network
from .ranks import ALONE, Ranks
from .shards import Root, like, shard, whole

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Making:
    """How a policy is trained."""

    device: str = "cpu"
    dtype: str = "float32"  # that passes compute in; weights and what the optimiser keeps are float32
    checkpointing: bool = False  # keep each layer's input alone, and compute the layer again for its gradient
    lora: int = 0  # rank of the adapters; 0: the weights themselves
    seed: int = 0  # of the adapters

    @property
    def sharded(self) -> bool:
        """Also in one process: it is FSDP that keeps the weights in float32 and computes in bfloat16."""
        return self.dtype != "float32"


class Trainee(Network):
    """A causal language model as ``making`` says, in float32 and on the CPU at first.

    Args:
        model: changed in place.
        fresh: gives the model once more, in the type that passes compute in: what a periodic reference begins as.

    Raises UsageError for a model that cannot be recomputed or adapted.
    """

    def __init__(self, model: Any, making: Making, fresh: Callable[[], nn.Module], ranks: Ranks = ALONE) -> None:
        self._layers: list[GradientCheckpointingLayer] = []
        self._bare, self._fresh = False, fresh
        self.adapters = Adapters(model, making.lora, making.seed) if making.lora else None
        device = torch.device(making.device)
        sharded = making.sharded or ranks.count > 1
        super().__init__(model if sharded else model.to(device))
        self.ranks = ranks
        if making.checkpointing:
            self._recompute()
        if sharded:
            self.dtype = DTYPES[making.dtype]
            self.root = Root(model, (self.decoder, self.head) if self.splits else None)
            shard(self.root, device, ranks.count, self.dtype)

    def ready(self) -> None:
        """No dropout; layers that are recomputed are in train mode themselves, and nothing inside them is."""
        super().ready()
        for layer in self._layers:
            layer.training = True

    def hidden(self, ids: Tensor, forest: Forest | None = None) -> Tensor:
        with self._worn():
            if self.root is None or not self.splits:
                return super().hidden(ids, forest)
            states: Tensor = self.root(ids, self._seen(forest), None)[0]
            return states

    def logits(self, ids: Tensor, forest: Forest | None = None) -> Tensor:
        with self._worn():
            return super().logits(ids, forest)

    def read(self, forest: Forest, node: Tensor) -> tuple[Tensor, Tensor]:
        with self._worn():
            assert self.root is not None
            states, raw = self.root(forest.ids, self._seen(forest), node)
            return states, raw

    def bare(self) -> "Trainee":
        """The same without its adapters: what it was before it learned, at no cost of memory."""
        if self.adapters is None:
            raise UsageError("a model without adapters has nothing to take off")
        other = copy(self)
        other._bare = True
        return other

    def twin(self) -> Network:
        return Network(self._fresh())

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        state = self.model.state_dict()
        if self.adapters is not None:
            yield from self.adapters.merged(state, whole)
        else:
            yield from ((name, whole(tensor)) for name, tensor in state.items())

    def state(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        names = list(state) if self.adapters is None else self.adapters.trained(state)
        return {name: whole(state[name]) for name in names}

    def load(self, state: Mapping[str, Tensor]) -> None:
        own = self.model.state_dict()
        names = set(own) if self.adapters is None else set(self.adapters.trained(own))
        if wrong := sorted(names ^ set(state)):
            raise KeyError(f"weights {', '.join(wrong[:3])}")
        with torch.no_grad():
            for name in sorted(names):
                if state[name].shape != own[name].shape:
                    raise ValueError(f"{name} is {[*state[name].shape]} there, {[*own[name].shape]} here")
                own[name].copy_(like(state[name], own[name]))

    def _worn(self) -> AbstractContextManager[None]:
        return self.adapters.off() if self._bare and self.adapters else nullcontext()

    def _recompute(self) -> None:
        """Switch gradient checkpointing on; raises UsageError where that changes what the model gives."""
        name = type(self.model).__name__
        found = [m for m in self.model.modules() if isinstance(m, GradientCheckpointingLayer)]
        if not found:
            raise UsageError(f"{name} cannot compute its layers again: leave out checkpointing")
        ids = torch.arange(1, 9, device=next(self.model.parameters()).device)[None] % self._vocabulary()
        before = self.logits(ids).detach()
        model: Any = self.model
        try:
            model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        except ValueError as error:
            raise UsageError(f"{name} cannot compute its layers again: leave out checkpointing") from error
        self._layers = found
        self.ready()
        with torch.random.fork_rng(devices=[]):
            same = torch.equal(before, self.logits(ids).detach())
        if not same:  # a layer that drops out by itself, and not by a module inside it
            raise UsageError(f"the layers of {name} drop out while they are recomputed: leave out checkpointing")
