"""Samplers: token ids in, token ids and log-probabilities out."""

from .scripted import ScriptedSampler
from .torch import TorchSampler

__all__ = ["ScriptedSampler", "TorchSampler"]
