"""A web site as a Gymnasium environment."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import HTMLResponse

from turngym.envs import EnvError, Message, UsageError
from turngym.envs.web import Draft, Job, StateMatch, Step, Template, UrlMatch, WebEnv, parse
from turngym.envs.web.engine import Receive, Scope, Send
from turngym.envs.web.env import EXAMPLES, FORMS, INSTRUCTIONS, SLACK, THINK, make_engine
from turngym.envs.web.parser_engine import ParserEngine
from turngym.envs.web.shop import TEMPLATES, WebShop
from turngym.envs.web.task import because, click

ID = "turngym.envs:turngym/WebShop-v0"
KEYS = {"success", "template", "level", "goal", "turn", "refused"}


@pytest.fixture
def env() -> Iterator[WebShop]:
    env = WebShop(task="read_price")
    env.reset(seed=1)
    yield env
    env.close()


def test_gymnasium_finds_nothing_wrong() -> None:
    check_env(WebShop(), skip_render_check=True)


def test_make_takes_every_option() -> None:
    options = {"task": "unseen", "split": "test", "level": (2, 3), "max_turns": 7, "instructions": False}
    made = gym.make(ID, engine="parser", render_mode="ansi", prompt="plain", **options)
    world = made.unwrapped
    assert isinstance(world, WebShop)
    assert (world.templates, world.split, world.max_turns) == (("search_add", "search_review"), "test", 7)
    observation, info = made.reset(seed=3)
    assert observation[0] == Message("system", info["goal"])
    assert made.observation_space.contains(observation)
    made.close()


@pytest.mark.parametrize(("mode", "options"), [("sync", {}), ("async", {"shared_memory": False})])
def test_vectors_of_shops(mode: str, options: dict[str, Any]) -> None:
    many = gym.make_vec(ID, num_envs=2, vectorization_mode=mode, vector_kwargs=options, task="read_price", max_turns=2)
    alone = WebShop(task="read_price", max_turns=2)
    first, info = many.reset(seed=[5, 6])
    assert [alone.reset(seed=seed)[0] for seed in (5, 6)] == list(first)
    assert list(info["turn"]) == [0, 0]
    seen, rewards, terminated, truncated, info = many.step(('exit(message="x")', "look"))
    assert (list(rewards), list(terminated), list(truncated)) == ([0, 0], [True, False], [False, False])
    assert "error: an action is one call" in seen[1][0].text and list(info["turn"]) == [1, 1]
    many.close(), alone.close()


def trace(seed: int, actions: list[int]) -> list[object]:
    env = WebShop()
    observation, info = env.reset(seed=seed)
    seen: list[object] = [observation, info]
    for action in actions:
        names = [f'do(action="Click", element="{e.id}")' for e in env.page.elements] + ["go_backward()", "look"]
        step = env.step(names[action % len(names)])
        seen += [*step]
        if step[2] or step[3]:
            break
    env.close()
    return seen


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), actions=st.lists(st.integers(0, 1000), max_size=6))
def test_the_same_seed_and_actions_leave_the_same_trace(seed: int, actions: list[int]) -> None:
    assert trace(seed, actions) == trace(seed, actions)


def test_other_seeds_are_other_tasks_and_resets_without_a_seed_go_on() -> None:
    env = WebShop()
    assert len({env.reset(seed=seed)[1]["goal"] for seed in range(20)}) == 20
    rest = [env.reset(seed=3 if i == 0 else None)[1]["goal"] for i in range(4)]
    assert len(set(rest)) == 4
    assert rest == [env.reset(seed=3 if i == 0 else None)[1]["goal"] for i in range(4)]
    env.close()


def test_a_template_asked_for_is_played_in_the_shop_of_its_seed() -> None:
    env = WebShop(level=(2, 3, 4))
    shops = set()
    for name in env.templates:
        (goal, page), info = env.reset(seed=4, options={"template": name})
        assert info["template"] == name
        shops.add(page.text)
    assert len(shops) == 1  # they all start at home
    assert env.reset(seed=4, options={})[0] == env.reset(seed=4)[0]
    env.close()


@pytest.mark.parametrize("options", [{"level": 2}, {"template": "read_price", "seed": 1}, {"template": "fly"}])
def test_unknown_options_of_reset(env: WebShop, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="reset knows the option template|draws from read_price"):
        env.reset(seed=0, options=options)


def test_the_first_observation_is_goal_and_page(env: WebShop) -> None:
    (goal, page), info = env.reset(seed=1)
    assert (goal.role, page.role) == ("system", "user")
    assert goal.text == INSTRUCTIONS.format(form=FORMS["plain"]) + info["goal"]
    assert info["goal"].startswith("tell the price of ")
    assert page.text.startswith(f"{env.page.title} at {env.page.path}\nhome [1] cart [2] search box [3]")
    assert set(info) == KEYS
    assert (info["success"], info["template"], info["level"], info["turn"]) == (False, "read_price", 1, 0)


@pytest.mark.parametrize(
    ("instructions", "start"), [(True, INSTRUCTIONS.format(form=FORMS["thinking"])), (False, "think first ")]
)
def test_a_thinking_prompt_asks_for_thoughts(instructions: bool, start: str) -> None:
    env = WebShop(prompt="thinking", instructions=instructions)
    plain = WebShop(instructions=False)
    (goal, page), info = env.reset(seed=3)
    assert goal.text == start + info["goal"] and plain.reset(seed=3)[0] == (Message("system", info["goal"]), page)
    assert ("<think>" in goal.text) == instructions and THINK == "think first "
    env.close(), plain.close()


@pytest.mark.parametrize("template", [t.name for t in TEMPLATES])
def test_a_thinking_cheat_acts_as_a_plain_one(template: str) -> None:
    plain, thinking = (WebShop(task=template, prompt=prompt) for prompt in ("plain", "thinking"))
    for seed in range(3):
        plain.reset(seed=seed), thinking.reset(seed=seed)
        for step in plain.task.gold:
            said, thought = plain.cheat(), thinking.cheat()
            assert thought == f"<think>{step.thought}</think><answer>{said}</answer>" and step.thought
            assert parse(thought) == parse(said)
            taken = plain.step(said)
            assert taken == thinking.step(thought)
        assert taken[1:3] == (1.0, True)
    plain.close(), thinking.close()


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("look", "an action is one call of do, exit, go_backward or go_forward"),
        ('do(action="Click", element="x [99]")', "there is no element [99] on this page"),
        ("go_backward()", "there is no page to go back to"),
    ],
)
def test_a_refused_action_costs_a_turn_and_is_explained(env: WebShop, action: str, error: str) -> None:
    before = env.page
    (message,), reward, terminated, truncated, info = env.step(action)
    assert message.role == "user" and message.text.split("\n")[1] == f"error: {error}"
    assert (reward, terminated, truncated, info["turn"], info["error"]) == (0.0, False, False, 1, error)
    assert env.page == before
    (message,), *_, info = env.step('do(action="Wait")')
    assert "error" not in message.text and set(info) == KEYS and info["turn"] == 2


def test_the_turn_limit_truncates_unless_the_last_turn_is_an_exit() -> None:
    for max_turns in (None, 1, 9):
        env = WebShop(task="read_price", max_turns=max_turns)
        env.reset(seed=0)
        limit = max_turns or len(env.task.gold) + SLACK
        ends = [env.step("look")[2:4] for _ in range(limit)]
        assert ends == [(False, False)] * (limit - 1) + [(False, True)]
        env.reset(seed=0)
        ends = [env.step(action)[2:4] for action in (*["look"] * (limit - 1), 'exit(message="0")')]
        assert ends[-1] == (True, False)
        env.close()


def test_a_state_is_success_without_exit_only_at_the_limit() -> None:
    env = WebShop(task="add_one", max_turns=4)
    env.reset(seed=0)
    steps = [env.step(env.cheat()) for _ in range(3)]
    assert [(s[1], s[2], s[3], s[4]["success"]) for s in steps] == [(0.0, False, False, False)] * 3
    _, reward, terminated, truncated, info = env.step("look")
    assert (reward, terminated, truncated, info["success"]) == (1.0, False, True, True)
    env.close()


def test_step_after_the_end_or_before_a_reset_raises(env: WebShop) -> None:
    env.step("exit()")
    for world in (env, WebShop()):
        with pytest.raises(EnvError, match="call reset before step"):
            world.step("exit()")
    env.reset(seed=2)
    assert env.step("look")[4]["turn"] == 1


def test_rendering_as_text_is_the_last_observation() -> None:
    env = WebShop(render_mode="ansi")
    observation, _ = env.reset(seed=0)
    assert env.render() == observation[-1].text
    observation, *_ = env.step("look")
    assert env.render() == observation[-1].text
    env.close()
    assert WebShop().render() is None


def test_rendering_as_pixels_is_the_browser() -> None:
    env = WebShop(render_mode="rgb_array", task="add_one")
    text = WebShop(task="add_one")
    try:
        assert env.reset(seed=0)[0] == text.reset(seed=0)[0]
        first = env.render()
        assert isinstance(first, np.ndarray) and first.dtype == np.uint8
        assert first.ndim == 3 and first.shape[2] == 3 and min(first.shape[:2]) > 100
        assert len(np.unique(first)) > 10  # something is drawn
        env.step(env.cheat())
        assert (env.render() != first).any()
    finally:
        env.close(), text.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"render_mode": "video"}, "no render mode 'video'; there are ansi, rgb_array, human"),
        ({"render_mode": "human", "engine": "parser"}, "the parser engine draws nothing"),
        ({"engine": "lynx"}, "no engine 'lynx'; there are parser, browser, remote"),
        ({"prompt": "loud"}, "no prompt 'loud'; there are plain, thinking"),
        ({"max_turns": 0}, "max_turns must be at least 1, not 0"),
    ],
)
def test_wrong_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        WebShop(**options)


def test_the_parser_is_the_usual_engine_and_any_engine_is_taken() -> None:
    engine = ParserEngine()
    assert make_engine(engine) is engine and isinstance(make_engine("parser"), ParserEngine)
    env = WebShop(engine=engine)
    env.reset(seed=0)
    with pytest.raises(UsageError, match="draws nothing"):
        env.screenshot()
    env.close(), env.close()


class Doors:
    """A site with a way in and a way out."""

    asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        page = HTMLResponse("<title>doors</title><a href=/in>in</a><a href=http://other.example/>out</a>")
        await page(scope, receive, send)

    def state(self) -> int:
        return self.asked

    def close(self) -> None:
        pass


class TwoHouses(WebEnv):
    """Asks for a page of the site in the second tab; the one in the first looks the same."""

    GOLD = (Step("Switch Tab", argument="1", thought="right"), *because("in", *click("in")))
    JOB = Job("enter the right house", GOLD, (UrlMatch("right", "/in"), StateMatch("left", 1)), "/in")
    TEMPLATES = (Template("enter", 1, "train", lambda *_: Draft(TwoHouses.JOB, {"left": Doors, "right": Doors})),)


def test_an_episode_over_two_sites() -> None:
    env = TwoHouses()
    assert env.reset(seed=0)[0][1].text == "doors at /in\ntabs: 0 doors here, 1 doors\nin [1] out [2]"
    assert not env.task.success(env.final("done"))  # the page that is shown is the other site's
    (page,), *_ = env.step(env.cheat())
    assert page.text.startswith("doors at /\ntabs: 0 doors, 1 doors here\n")
    assert env.final(None).states == {"left": 1, "right": 1}
    env.step(env.cheat())
    assert (env.final("x").page.site, env.final("x").states) == ("right", {"left": 1, "right": 2})
    assert env.step(env.cheat())[1] == 1.0
    env.close()


def test_requests_for_other_sites_are_counted() -> None:
    env = TwoHouses(max_turns=9)
    assert env.reset(seed=0)[1]["refused"] == 0
    infos = [env.step(f'do(action="Click", element="{name}")')[4] for name in ("2", "1", "2")]
    assert [info["refused"] for info in infos] == [1, 1, 2] and "leads away" in infos[0]["error"]
    assert env.reset(seed=0)[1]["refused"] == 0
    env.close()


def test_every_action_of_the_space_can_be_taken() -> None:
    env = WebShop()
    for action in (*EXAMPLES, "", "\x00", "é" * 9000, '{"action": "Click"}'):
        env.reset(seed=0)
        assert action in env.action_space
        assert env.step(action)[0] in env.observation_space
    env.close()
