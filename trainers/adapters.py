"""LoRA: a frozen model with a product of two thin matrices beside each of its linear layers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..envs import UsageError
from ..envs.errors import extra

_A, _B, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer"
FOLDER = "adapter"  # in an agent's folder


class Adapters:
    """The adapters of rank ``rank`` (Hu et al., arXiv 2106.09685) beside every linear layer of ``model`` but its head.

    Their product, times 2, is added to the layer's weight; it begins at 0. All else is frozen. The first factor is
    drawn by ``seed``. Raises UsageError for a model without linear layers, MissingExtra without ``peft``.
    """

    def __init__(self, model: Any, rank: int, seed: int) -> None:
        peft = extra("peft", "peft")
        conv = any(type(m).__name__ == "Conv1D" for m in model.modules())  # GPT-2's, which lie the other way round
        self.config = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules="all-linear", fan_in_fan_out=conv, task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(devices=[]):  # the initialiser knows the global generator only
            torch.manual_seed(seed)
            try:
                peft.inject_adapter_in_model(self.config, model)
            except ValueError as error:
                raise UsageError(f"no LoRA for {type(model).__name__}: {str(error).splitlines()[0]}") from error
        layer = extra("peft.tuners.tuners_utils", "peft").BaseTunerLayer
        self.layers: dict[str, Any] = {name: m for name, m in model.named_modules() if isinstance(m, layer)}

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model as it is without them."""
        for layer in self.layers.values():
            layer._disable_adapters = True  # the public switch also freezes them
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer._disable_adapters = False

    def trained(self, names: Mapping[str, Any]) -> list[str]:
        """Those of ``names`` that are theirs."""
        return [name for name in names if name.endswith((_A, _B))]

    def merged(self, state: Mapping[str, Any], whole: Any) -> Iterator[tuple[str, Tensor]]:
        """The weights of the model with the products added, by the model's own names; ``whole`` makes a tensor full."""
        for name, tensor in state.items():
            if name.endswith((_A, _B)):
                continue
            path = name.rpartition(_BASE)[0]
            weight = whole(tensor)
            if path and name.endswith(".weight"):
                layer = self.layers[path]
                product = whole(state[path + _B]) @ whole(state[path + _A])
                product = product.T if layer.fan_in_fan_out else product
                weight = weight + layer.scaling["default"] * product.to(weight)
            yield name.replace(_BASE, ""), weight

    def files(self, folder: Path, state: Mapping[str, Tensor], base: str) -> None:
        """Write them as ``peft`` does, relative to the model in ``base``."""
        from safetensors.torch import save_file

        self.config.base_model_name_or_path = base
        named = {f"base_model.model.{name.replace('.default.', '.')}": t.contiguous() for name, t in state.items()}
        self.config.save_pretrained(str(folder))
        save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
