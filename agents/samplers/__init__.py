"""Samplers: token ids in, token ids and log-probabilities out."""

from .torch import TorchSampler

__all__ = ["TorchSampler"]
