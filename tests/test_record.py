"""Each step carries the picture of the page that the action was taken on."""

from typing import Any

import gymnasium as gym
import pytest

from turngym.envs import Chat, Messages, Reply, UsageError, user
from turngym.envs.web.shop import WebShop
from turngym.wrappers import Recorded


class Counter(gym.Env[Messages, str]):
    """Draws how many steps were taken."""

    def __init__(self, ending: tuple[bool, bool]) -> None:
        self.observation_space, self.action_space, self.ending = Chat(), Reply(["a"]), ending
        self.taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Messages, Any]:
        super().reset(seed=seed)
        self.taken, self.asked = 0, (seed, options)
        return user("go"), {"first": True}

    def step(self, action: str) -> tuple[Messages, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        terminated, truncated = self.ending if self.taken == 2 else (False, False)
        return user(action), 0.5, terminated, truncated, {"own": self.taken}

    def screenshot(self) -> bytes:
        return b"picture %d" % self.taken


@pytest.mark.parametrize("ending", [(True, False), (False, True)])
def test_pictures_are_of_the_page_before_each_action(ending: tuple[bool, bool]) -> None:
    world = Counter(ending)
    env = Recorded(gym.wrappers.OrderEnforcing(world))  # type: ignore[arg-type]
    for _ in range(2):  # a second episode starts anew
        assert env.reset(seed=4, options={"a": 1}) == (user("go"), {"first": True})
        assert world.asked == (4, {"a": 1})
        assert env.step("x") == (user("x"), 0.5, False, False, {"own": 1, "screenshot": b"picture 0"})
        info = {"own": 2, "screenshot": b"picture 1", "final_screenshot": b"picture 2"}
        assert env.step("y") == (user("y"), 0.5, *ending, info)


def test_a_world_that_draws_nothing_says_so() -> None:
    env = Recorded(WebShop(engine="parser"))
    with pytest.raises(UsageError, match="the parser engine draws nothing"):
        env.reset(seed=0)
    env.close()


def test_a_recorded_browser_gives_pngs() -> None:
    env = Recorded(gym.make("turngym.envs:turngym/WebShop-v0", engine="browser", task="read_price"))
    try:
        env.reset(seed=0)
        infos = [env.step(env.get_wrapper_attr("cheat")())[4] for _ in range(2)]
    finally:
        env.close()
    shots = [infos[0]["screenshot"], infos[1]["screenshot"], infos[1]["final_screenshot"]]
    assert all(shot.startswith(b"\x89PNG") for shot in shots)
    assert shots[0] != shots[1] and "final_screenshot" not in infos[0]
