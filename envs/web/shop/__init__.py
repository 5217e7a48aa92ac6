"""The shop: ``gym.make("turngym.envs:turngym/WebShop-v0", task=…, split=…, level=…, engine=…)``."""

import numpy as np

from ...errors import UsageError, extra
from ..engine import Engine
from ..env import Episode, WebEnv
from .data import SPLITS, Split, grow
from .tasks import TEMPLATES, Template, templates

__all__ = ["TEMPLATES", "Template", "WebShop"]


class WebShop(WebEnv):
    """Shop tasks; each episode grows its own shop from the seed.

    ``task``: a template's name, "seen" (default) or "unseen"; ``split``: train, validation or test, which sell
    different products; ``level``: one or several of 1 to 4, or None for all; the rest as WebEnv.
    """

    def __init__(
        self,
        *,
        task: str | None = None,
        split: Split = "train",
        level: int | tuple[int, ...] | None = None,
        engine: str | Engine | None = None,
        render_mode: str | None = None,
        max_turns: int | None = None,
        instructions: bool = True,
    ) -> None:
        if split not in SPLITS:
            raise UsageError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        self._drawn = templates(task, split, (level,) if isinstance(level, int) else level)
        self.templates = tuple(t.name for t in self._drawn)
        self.split = split
        super().__init__(
            self._episode,
            engine=engine,
            render_mode=render_mode,
            max_turns=max_turns,
            instructions=instructions,
        )

    def _episode(self, rng: np.random.Generator, name: str | None) -> Episode:
        for module in ("starlette", "jinja2", "python_multipart"):
            extra(module, "web")
        from .app import ShopSite  # here, so that importing the environments needs no extra

        known = {t.name: t for t in self._drawn}
        if name is not None and name not in known:
            raise UsageError(f"this environment draws from {', '.join(known)}, not {name!r}")
        drawn = self._drawn[int(rng.integers(len(self._drawn)))]  # drawn in any case: one stream, one shop
        stock = grow(rng, self.split)
        return Episode((known[name] if name else drawn).task(stock, rng), lambda: ShopSite(stock))
