"""What a learner is made from: every process of a run makes its own from the same."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from .estimator import Recipe
from .learner import Learner
from .models import load
from .output import Network
from .ranks import ALONE, Ranks
from .trainee import Making, Trainee

MICRO = {"cpu": 2048, "cuda": 16384}  # padded tokens of one pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A learner to be."""

    folder: str  # or hub id, of the model that it begins with
    recipe: Recipe
    lr: float
    making: Making = Making()
    micro_tokens: int = 0  # padded tokens of one pass; 0: as the device is
    references: tuple[tuple[str, str], ...] = ()  # frozen models: name and folder

    def learner(self, ranks: Ranks = ALONE) -> Learner:
        """The learner of one of ``ranks``; raises CheckpointError for what is no model, UsageError as ``Trainee``."""
        device = torch.device(self.making.device)
        if device.type == "cuda" and ranks.count > 1:
            device = torch.device("cuda", ranks.rank)
        making = replace(self.making, device=str(device))
        plain = ranks.count == 1 and replace(making, device="cpu", seed=0) == Making()
        network = load(self.folder, making.device)[0] if plain else self._trainee(making, ranks)
        references: Mapping[str, nn.Module | Network] = {
            name: network.bare()
            if making.lora and folder == self.folder
            else load(folder, making.device, making.dtype)[0]
            for name, folder in self.references
        }
        micro = self.micro_tokens or MICRO.get(device.type, 2048)
        return Learner(network, self.recipe, lr=self.lr, micro_tokens=micro, references=references)

    def _trainee(self, making: Making, ranks: Ranks) -> Trainee:
        def fresh() -> nn.Module:
            model: nn.Module = load(self.folder, making.device, making.dtype)[0]
            return model

        return Trainee(load(self.folder)[0], making, fresh, ranks)
