"""The shop: ``gym.make("turngym.envs:turngym/WebShop-v0", task=…, split=…, level=…, engine=…)``."""

from typing import Any

import numpy as np

from ...errors import UsageError
from ..engine import Engine
from ..env import Episode, WebEnv
from .data import SPLITS, Split, grow
from .tasks import TEMPLATES, Template, templates

__all__ = ["TEMPLATES", "Template", "WebShop"]


class WebShop(WebEnv):
    """Shop tasks; each episode grows its own shop from the seed.

    ``task``: a template's name, "seen" (default) or "unseen"; ``split``: train, validation or test, which sell
    different products; ``level``: 1 to 4, or None for all; the rest as WebEnv.
    """

    def __init__(
        self,
        *,
        task: str | None = None,
        split: Split = "train",
        level: int | None = None,
        engine: str | Engine | None = None,
        **options: Any,
    ) -> None:
        if split not in SPLITS:
            raise UsageError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        self.templates = templates(task, split, level)
        self.split = split
        super().__init__(self._episode, engine=engine, **options)

    def _episode(self, rng: np.random.Generator, name: str | None) -> Episode:
        # the engine's site is imported here so that the extra `web` is asked for only where it is used
        from ...errors import extra

        extra("starlette", "web"), extra("jinja2", "web")
        from .app import ShopSite

        known = {t.name: t for t in self.templates}
        if name is not None and name not in known:
            raise UsageError(f"this environment draws from {', '.join(known)}, not {name!r}")
        drawn = self.templates[
            int(rng.integers(len(self.templates)))
        ]  # drawn in any case: one stream, one shop
        stock = grow(rng, self.split)
        return Episode((known[name] if name else drawn).task(stock, rng), lambda: ShopSite(stock))
