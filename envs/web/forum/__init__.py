"""The forum: ``gym.make("turngym.envs:turngym/WebForum-v0", task=…, split=…, level=…, engine=…)``."""

from ..env import WebEnv
from .tasks import TEMPLATES

__all__ = ["WebForum"]


class WebForum(WebEnv):
    """Forum tasks; each episode grows its own forum from the seed. Options: see WebEnv."""

    TEMPLATES = TEMPLATES
