"""Minds: words to tokens to words; they know nothing of rewards to come."""

from .core import Action, Agent, Call, ContextFull, Request, Sample, Sampler, Turn, Weights

__all__ = ["Action", "Agent", "Call", "ContextFull", "Request", "Sample", "Sampler", "Turn", "Weights"]
