"""FSDP2: every process keeps a part of each weight, and has the whole of a layer only while it passes through it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

Seen = Mapping[str, Tensor]  # positions and attention mask, where there are branches


class Root(nn.Module):
    """A causal language model whose decoder and head are one call: FSDP wants one root, and it may tie the two.

    Args:
        model: the whole model.
        cut: decoder and head, or None for a model that does more to its logits than apply the head.
    """

    def __init__(self, model: Any, cut: tuple[Callable[..., Any], Callable[[Tensor], Tensor]] | None) -> None:
        super().__init__()
        self.model = model
        self._cut = cut  # in a tuple, and so no submodules: they are the model's

    def forward(self, ids: Tensor, seen: Seen, node: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Hidden states [U, N, H] of ``ids`` [U, N], and raw logits [W, V] at ``node`` [W]; or all logits as states."""
        if self._cut is None:
            states: Tensor = self.model(input_ids=ids, use_cache=False, **seen).logits
        else:
            states = self._cut[0](input_ids=ids, use_cache=False, **seen).last_hidden_state
        if node is None:
            return states, None
        chosen = nn.functional.embedding(node, states.flatten(0, 1))
        return states, chosen if self._cut is None else self._cut[1](chosen)


def shard(root: nn.Module, device: torch.device, count: int, dtype: torch.dtype) -> None:
    """Shard ``root``, layer by layer, over ``count`` processes, in place; it then lies on ``device``.

    Weights, gradients and what the optimiser keeps stay in their own type; passes compute in ``dtype``, with the
    weights rounded to it, as a sampler's are. Gradients are summed over processes, not averaged.
    """
    mesh = init_device_mesh(device.type, (count,))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    if dtype == torch.float32:
        policy = MixedPrecisionPolicy()
    inner = [m for m in root.modules() if isinstance(m, GradientCheckpointingLayer)]
    for module in (*inner, root):
        # the root too: what is whole outside of a pass would be stale after an optimiser step
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo cannot multiply first


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each process has a part; every process must ask. Any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, own: Tensor) -> Tensor:
    """The part of ``value`` that belongs to this process if ``own`` is a part."""
    if not isinstance(own, DTensor) or value.shape != own.shape:
        return value
    value = value.to(own.device)
    return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)


def gathered(state: Any) -> Any:
    """``state`` with every part made whole, on the CPU; what is whole already stays as it is."""
    if isinstance(state, DTensor):
        return whole(state).detach().cpu()
    if isinstance(state, dict):
        return {key: gathered(value) for key, value in state.items()}
    return [gathered(value) for value in state] if isinstance(state, list) else state


def placed(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's ``gathered`` state as parts of its parameters."""
    own = [p for group in optimizer.param_groups for p in group["params"]]
    found = {
        number: {name: like(value, own[number]) if isinstance(value, Tensor) else value for name, value in kept.items()}
        for number, kept in state["state"].items()
    }
    return {**state, "state": found}
