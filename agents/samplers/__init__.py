"""Samplers: token ids in, token ids and log-probabilities out."""

from .http import HttpSampler
from .scripted import ScriptedSampler
from .torch import TorchSampler

__all__ = ["HttpSampler", "ScriptedSampler", "TorchSampler"]
