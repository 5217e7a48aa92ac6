"""A server of the OpenAI kind for agents written elsewhere: it answers from a sampler and records exact tokens."""

from ...envs import extra

for _module in ("starlette", "uvicorn"):
    extra(_module, "proxy")

from .recording import OUTCOMES, Budget, Episode, Exchange  # noqa: E402
from .server import Proxy  # noqa: E402
from .wire import Ask, Rejected  # noqa: E402

__all__ = ["Ask", "Budget", "Episode", "Exchange", "OUTCOMES", "Proxy", "Rejected"]
