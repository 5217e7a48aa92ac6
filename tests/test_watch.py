"""Pages that grow too large are ended, and nothing else is."""

import time
from pathlib import Path

import numpy as np
import pytest

from turngym.envs.errors import EnvError
from turngym.envs.web import watch
from turngym.envs.web.browser_engine import BrowserEngine
from turngym.envs.web.engine import Place
from turngym.envs.web.grammar import Do
from turngym.envs.web.shop.data import grow
from turngym.envs.web.shop.tasks import site

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
SHOP = {"shop": site(grow(np.random.default_rng(0), "train"))}


def test_a_page_beyond_the_limit_is_ended_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = BrowserEngine(seconds=60)
    try:
        engine.open(SHOP, (Place("shop"),))
        browser = engine._browser
        assert browser and list(watch._pages(browser._pid))
        assert all(0 < watch._held(page) < watch.LIMIT for page in watch._pages(browser._pid))
        monkeypatch.setattr(watch, "LIMIT", 1 << 20)
        with pytest.raises(EnvError, match="crashed"):
            for _ in range(1000):  # until the next look
                engine.act(Do("Wait"))
                time.sleep(0.01)
        monkeypatch.undo()
        assert engine.open(SHOP, (Place("shop"),)).path == "/"
        assert engine._browser is browser
    finally:
        engine.close()


def test_a_process_that_has_ended_holds_nothing() -> None:
    assert watch._held(2**22 + 1) == 0
    assert list(watch._pages(2**22 + 1)) == []
