"""All sites as one environment: tasks across them are paid only when both end as wanted; every page is plain words."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import seeding

from turngym.agents import Turn
from turngym.agents.scripted import RandomAgent
from turngym.agents.tiny import tokenizer
from turngym.envs.web import Step, Task, Template
from turngym.envs.web.forum import TEMPLATES as FORUM
from turngym.envs.web.forum.data import Talk
from turngym.envs.web.forum.data import grow as grow_talk
from turngym.envs.web.shop import TEMPLATES as SHOP
from turngym.envs.web.shop.data import ADDRESSES, Stock
from turngym.envs.web.shop.data import grow as grow_stock
from turngym.envs.web.suite import ACROSS, TEMPLATES, WebSuite
from turngym.envs.web.task import click
from turngym.envs.web.words import SPLITS, Split

TURNS = {1: range(1, 3), 2: range(3, 6), 3: range(6, 10), 4: range(10, 16)}
WANTED = {
    "advised_price": (2, "train", ("forum", "shop")),
    "add_advised": (2, "test", ("forum", "shop")),
    "order_advised": (3, "train", ("forum", "shop")),
    "vote_and_add": (3, "train", ("forum", "shop")),
    "add_and_join": (3, "validation", ("shop", "forum")),
    "vote_and_order": (4, "train", ("forum", "shop")),
}
SEEDS = range(3)
BACK = "go_backward()"
WORDS = tokenizer.build()
EACH = pytest.mark.parametrize("template", ACROSS, ids=lambda t: t.name)
Actions = Sequence[Step | str]


@dataclass(frozen=True, slots=True)
class Case:
    """One episode, and what its sites hold."""

    template: Template
    split: Split
    seed: int
    task: Task
    talk: Talk
    stock: Stock

    @property
    def named(self) -> set[str]:
        return {text for step in self.task.gold for text in (step.element, step.argument) if text}


def made(template: Template) -> list[Case]:
    """The template's episodes in every split, over several seeds."""
    found = []
    for split in SPLITS:
        for seed in SEEDS:
            env = WebSuite(task=template.name, split=split)
            env.reset(seed=seed)
            env.close()
            rng = seeding.np_random(seed)[0]
            rng.integers(1)  # as the environment draws the template
            stock = grow_stock(rng, split)
            talk = grow_talk(rng, split, [(p.id, p.name) for p in stock.products])
            found.append(Case(template, split, seed, env.task, talk, stock))
    return found


def play(case: Case, actions: Actions, max_turns: int = 40) -> tuple[float, str]:
    """What ``actions`` earn, and how the episode ended; every action but the last goes on, none but BACK is refused."""
    env = WebSuite(task=case.template.name, split=case.split, max_turns=max_turns)
    env.reset(seed=case.seed)
    total = 0.0
    for i, step in enumerate(actions):
        _, reward, terminated, truncated, info = env.step(step if isinstance(step, str) else step.spell(env.page))
        assert "error" not in info or step == BACK, info
        total += float(reward)
        assert (terminated or truncated) == (i + 1 == len(actions))
    env.close()
    return total, "terminated" if terminated else "truncated"


def tab(number: int) -> Step:
    return Step("Switch Tab", argument=str(number))


def test_the_suite_is_every_site_and_what_goes_across_them() -> None:
    assert TEMPLATES == (*SHOP, *FORUM, *ACROSS)
    assert len({t.name for t in TEMPLATES}) == len(TEMPLATES)
    assert {t.name: (t.level, t.split) for t in ACROSS} == {name: want[:2] for name, want in WANTED.items()}
    for template in ACROSS:
        start = made(template)[0].task.start
        assert tuple(place.site for place in start) == WANTED[template.name][2]
        assert {place.path for place in start} == {"/"}


@pytest.mark.parametrize("prompt", ["plain", "thinking"])
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_the_environment_cheats_its_way_to_the_reward(template: Template, prompt: str) -> None:
    for split in SPLITS:
        env = WebSuite(task=template.name, split=split, prompt=prompt)
        for seed in SEEDS:
            env.reset(seed=seed)
            over, total, turns = False, 0.0, 0
            while not over:
                _, reward, terminated, truncated, info = env.step(env.cheat())
                over, total, turns = terminated or truncated, total + float(reward), turns + 1
            assert (total, info["success"], terminated, turns in TURNS[template.level]) == (1.0, True, True, True)
        env.close()


@EACH
def test_doing_nothing_is_not_paid(template: Template) -> None:
    for case in made(template):
        for message in ("done", "", "0"):
            assert play(case, [f'exit(message="{message}")']) == (0.0, "terminated")
        assert play(case, ['do(action="Wait")'] * 5, max_turns=5) == (0.0, "truncated")


@EACH
def test_a_way_that_ends_too_early_is_not_paid(template: Template) -> None:
    for case in made(template):
        for stop in range(len(case.task.gold) - 1):
            assert play(case, [*case.task.gold[:stop], Step("exit", argument="done")]) == (0.0, "terminated")


def mistakes(case: Case) -> list[dict[str, str]]:
    """What to replace in gold by something else of its kind; each one spoils the task."""
    said, found = case.named, list[dict[str, str]]()
    by_name = {p.name: p for p in case.stock.products}
    (product,) = (p for name, p in by_name.items() if any(word.endswith(name) for word in said))
    for topic in (t for t in case.talk.topics if t.title in said):
        links = [f"{c.user} {c.text}" for c in topic.comments]
        if chosen := said.intersection(links):  # the other comment advises something else
            (link,), (wrong,) = chosen, set(links) - chosen
            other = by_name[wrong.partition(" ")[2]]
            swap = {link: wrong, str(product.price): str(other.price)}
            found += [swap] if other.price != product.price else []
        else:
            found += [{"vote up": "vote down"}]
            found += [{topic.title: t.title} for t in case.talk.topics if t.board == topic.board and t != topic]
    if "join" in said:
        (board,) = (b for b in case.talk.boards if b in said)
        found += [{board: b} for b in case.talk.boards if b != board]
    if product.department in said:
        shelf = [p for p in case.stock.products if p.department == product.department]
        found += [{product.name: p.name} for p in shelf if p != product]
    found += [{a: ADDRESSES[i - 1]} for i, a in enumerate(ADDRESSES) if a in said]
    return found + ([{"add item": "save item"}] if "add item" in said and "check out" not in said else [])


@EACH
def test_a_mistake_is_not_paid(template: Template) -> None:
    cases = made(template)
    assert all(mistakes(case) for case in cases[:3])
    for case in cases:
        for swap in mistakes(case):
            way = [
                replace(s, element=swap.get(s.element, s.element), argument=swap.get(s.argument or "", s.argument))
                for s in case.task.gold
            ]
            assert way != list(case.task.gold) and play(case, way) == (0.0, "terminated"), swap


def test_a_wrong_price_is_not_paid() -> None:
    (template,) = (t for t in ACROSS if t.name == "advised_price")
    for case in made(template):
        way, right = list(case.task.gold[:-1]), case.task.gold[-1].argument
        for wrong in (str(int(right or 0) + 1), f"{right}0", "done", ""):
            assert play(case, [*way, Step("exit", argument=wrong)]) == (0.0, "terminated")


@EACH
@pytest.mark.parametrize("damage", ["vote down", "join", "save item", "add item"])
def test_damage_on_either_site_is_not_paid(template: Template, damage: str) -> None:
    for case in made(template):
        topic = next(t for t in case.talk.topics if not {t.title, t.board} & case.named)
        product = next(p for p in case.stock.products if not {p.name, p.department} & case.named)
        ways = {
            "vote down": ("forum", [*click("home", topic.board, topic.title)]),
            "join": ("forum", [*click("home", topic.board)]),
            "save item": ("shop", [*click("home", product.department, product.name)]),
            "add item": ("shop", [*click("home", product.department, product.name)]),
        }
        site, way = ways[damage]
        at = [place.site for place in case.task.start].index(site)
        undo = [*[BACK] * 4, tab(0)]  # which brings back the first page, not what was done
        assert play(case, [tab(at), *way, *click(damage), *undo, *case.task.gold]) == (0.0, "terminated")
        assert play(case, [tab(at), *way, *undo, *case.task.gold]) == (1.0, "terminated")


@EACH
def test_advice_leads_to_the_shop_in_the_same_tab(template: Template) -> None:
    for case in made(template):
        topic = case.talk.topics[0]
        env = WebSuite(task=template.name, split=case.split)
        env.reset(seed=case.seed)
        at = [place.site for place in case.task.start].index("forum")
        for step in (tab(at), *click(topic.board, topic.title)):
            ((message,), *_) = env.step(step.spell(env.page))
        for comment in topic.comments:
            assert re.search(rf"{comment.user} {comment.text} \[\d+\]", message.text)
        advice = f"{topic.comments[0].user} {topic.comments[0].text}"
        env.step(click(advice)[0].spell(env.page))
        assert (env.page.site, env.page.path) == ("shop", f"/product/{topic.comments[0].product}")
        assert env.page.tab == at and len(env.page.tabs) == 2
        env.close()


@pytest.mark.parametrize("template", (*FORUM, *ACROSS), ids=lambda t: t.name)
def test_pages_goals_and_actions_are_words_and_names_are_clear(template: Template) -> None:
    sizes = list[int]()
    for split in SPLITS:
        env = WebSuite(task=template.name, split=split, instructions=False, prompt="thinking")
        for seed in range(8):
            observation, _ = env.reset(seed=seed)
            over = False
            while not over:
                action, texts = env.cheat(), [e.text for e in env.page.elements]
                assert len(set(texts)) == len(texts)  # so that a name alone tells which is meant
                assert 6 <= len(encoded(action)) <= 18 and min(encoded(action)) >= 256
                for text in (message.text for message in observation):
                    bytes_of = WORDS.convert_ids_to_tokens([i for i in encoded(text) if i < 256])
                    assert set(bytes_of) <= set(":,ĊĠ") and WORDS.decode(encoded(text)) == text
                sizes.append(len(encoded(observation[-1].text)))
                observation, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated
        env.close()
    assert 20 <= np.mean(sizes) <= 45 and max(sizes) <= 64


def encoded(text: str) -> list[int]:
    return list(WORDS.encode(text, add_special_tokens=False))


def test_the_same_seed_is_the_same_episode_and_another_seed_another() -> None:
    one, two = WebSuite(), WebSuite()
    seen = [one.reset(seed=seed) for seed in range(30)]
    assert seen == [two.reset(seed=seed) for seed in range(30)]
    assert len({info["goal"] for _, info in seen}) == 30
    assert len({info["template"] for _, info in seen}) > 8
    one.close()
    two.close()


def test_a_random_agent_earns_nothing_across_sites() -> None:
    for template in ACROSS:
        env = WebSuite(task=template.name)
        for seed in range(20):
            observation, _ = env.reset(seed=seed)
            agent, history, over = RandomAgent((seed,)), list[Turn](), False
            while not over:
                action = asyncio.run(agent(history, observation))
                history.append(Turn(observation, action))
                observation, reward, terminated, truncated, _ = env.step(action.text)
                over = terminated or truncated
            assert reward == 0
        env.close()


def test_the_environment_is_registered_and_keeps_templates_unseen() -> None:
    env = gym.make("turngym.envs:turngym/WebSuite-v0", task="unseen", split="test")
    world = env.unwrapped
    assert isinstance(world, WebSuite)
    assert set(world.templates) == {t.name for t in TEMPLATES if t.split == "test"}
    assert "add_advised" in world.templates and not set(world.templates) & set(WebSuite().templates)
    env.close()
