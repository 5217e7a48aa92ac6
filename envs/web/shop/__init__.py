"""The shop: ``gym.make("turngym.envs:turngym/WebShop-v0", task=…, split=…, level=…, engine=…)``."""

from ..env import WebEnv
from .tasks import TEMPLATES

__all__ = ["WebShop"]


class WebShop(WebEnv):
    """Shop tasks; each episode grows its own shop from the seed. Options: see WebEnv."""

    TEMPLATES = TEMPLATES
