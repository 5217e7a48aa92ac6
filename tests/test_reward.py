"""Shaped rewards are sums whose parts are reported."""

from typing import Any

import gymnasium as gym
import pytest

from turngym.envs.web.shop import WebShop
from turngym.wrappers import Shaped


def longer(action: str, reward: float, info: dict[str, Any]) -> float:
    return float(len(action))


def doubled(action: str, reward: float, info: dict[str, Any]) -> float:
    return 2 * reward


def test_parts_add_up_and_are_reported() -> None:
    env = Shaped(WebShop(task="add_one"), length=(-0.01, longer), win=(0.5, doubled))
    env.reset(seed=0)
    over, world = False, env.unwrapped
    assert isinstance(world, WebShop)
    while not over:
        action = world.cheat()
        _, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        paid = 1.0 if over else 0.0
        assert info["reward/length"] == pytest.approx(-0.01 * len(action))
        assert info["reward/win"] == paid
        assert float(reward) == pytest.approx(paid + info["reward/length"] + info["reward/win"])
        assert info["success"] is over and info["template"] == "add_one"
    env.close()


def test_a_part_sees_what_the_world_said() -> None:
    def refused(action: str, reward: float, info: dict[str, Any]) -> float:
        return float("error" in info)

    env = Shaped(gym.make("turngym.envs:turngym/WebShop-v0"), refused=(-1.0, refused))
    env.reset(seed=0)
    assert [float(env.step(action)[1]) for action in ("look", 'do(action="Wait")')] == [-1.0, 0.0]
    env.close()


def test_shaping_nothing_changes_nothing_and_shapings_stack() -> None:
    plain = Shaped(WebShop())
    twice = Shaped(Shaped(WebShop(), inner=(1.0, longer)), outer=(1.0, doubled))
    plain.reset(seed=0)
    twice.reset(seed=0)
    _, reward, *_, info = plain.step("look")
    assert reward == 0.0 and not [key for key in info if key.startswith("reward/")]
    _, reward, *_, info = twice.step("look")
    assert (reward, info["reward/inner"], info["reward/outer"]) == (12.0, 4.0, 8.0)
    plain.close()
    twice.close()
