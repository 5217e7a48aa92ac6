"""The random agent clicks what is there, and its choices follow its seed."""

import asyncio

from turngym.agents import Action, Turn
from turngym.agents.scripted import RandomAgent
from turngym.envs import Messages, user
from turngym.envs.web import Do, Element, Exit, Page, parse, render
from turngym.envs.web.shop import WebShop

QUOTED = Page("T", "/", ("hello", Element(1, "link", 'say "hi"\\'), Element(2, "button", "x"), Element(3, "link", "")))


def act(seed: tuple[int, ...], turn: int, observation: Messages) -> str:
    history = [Turn(user("past"), Action("past"))] * turn
    return asyncio.run(RandomAgent(seed)(history, observation)).text


def test_it_clicks_every_element_and_leaves_one_time_in_ten() -> None:
    observation = user(render(QUOTED))
    commands = [parse(act((seed,), 0, observation)) for seed in range(300)]
    clicked = [c.element for c in commands if isinstance(c, Do) and c.action == "Click"]
    left = [c for c in commands if c == Exit("done")]
    assert len(clicked) + len(left) == 300 and set(clicked) == {1, 2, 3}
    assert 15 < len(left) < 50 and all(60 < clicked.count(i) < 120 for i in (1, 2, 3))


def test_it_leaves_a_page_without_elements() -> None:
    assert {act((seed,), 0, user("an empty page")) for seed in range(20)} == {'exit(message="done")'}


def test_choices_follow_seed_and_turn() -> None:
    observation = user(render(QUOTED))
    choices = [[act((seed, 1), turn, observation) for turn in range(12)] for seed in range(4)]
    assert choices == [[act((seed, 1), turn, observation) for turn in range(12)] for seed in range(4)]
    assert len({tuple(row) for row in choices}) == 4 and all(len(set(row)) > 1 for row in choices)


def test_it_looks_at_the_newest_message() -> None:
    observation = (*user("home [7]"), *user("cart [8]"))
    assert {act((seed,), 0, observation) for seed in range(30)} == {
        'do(action="Click", element="cart [8]")',
        'exit(message="done")',
    }


def test_all_its_actions_are_possible_in_the_shop() -> None:
    env = WebShop(max_turns=12)
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        agent, history, over = RandomAgent((seed,)), list[Turn](), False
        while not over:
            action = asyncio.run(agent(history, observation))
            history.append(Turn(observation, action))
            observation, _, terminated, truncated, info = env.step(action.text)
            assert "error" not in info
            over = terminated or truncated
    env.close()
