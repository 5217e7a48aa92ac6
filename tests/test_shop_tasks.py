"""Every task of the shop: the gold way pays 1 and nothing else does."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from turngym.agents import Turn
from turngym.agents.scripted import RandomAgent
from turngym.envs import UsageError
from turngym.envs.web import Step, StringMatch, Task, Template, WebEnv
from turngym.envs.web.shop import TEMPLATES, WebShop
from turngym.envs.web.shop.data import ADDRESSES, STARS, Stock, grow
from turngym.envs.web.words import SPLITS, Split

TURNS = {1: range(1, 3), 2: range(3, 6), 3: range(6, 10), 4: range(10, 13)}
SEEDS = range(3)
BACK = "go_backward()"
ALL = pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
Actions = Sequence[Step | str]


@dataclass(frozen=True, slots=True)
class Case:
    """One episode of a template, its task, and what its shop sells."""

    template: Template
    split: Split
    seed: int
    task: Task
    stock: Stock


def made(template: Template) -> list[Case]:
    """The template's episodes in every split, over several seeds."""
    found = []
    for split in SPLITS:
        for seed in SEEDS:
            task = template.episode(np.random.default_rng(seed), split).task
            found.append(Case(template, split, seed, task, grow(np.random.default_rng(seed), split)))
    return found


def world(case: Case, max_turns: int) -> WebEnv:
    """An environment that draws this episode alone."""
    alone = replace(case.template, draft=lambda *_: case.template.draft(np.random.default_rng(case.seed), case.split))

    class World(WebEnv):
        TEMPLATES = (alone,)

    return World(task=alone.name, max_turns=max_turns)


def play(case: Case, actions: Actions, max_turns: int = 40) -> tuple[float, str]:
    """What ``actions`` earn, and how the episode ended; every action but the last goes on, none but BACK is refused."""
    env = world(case, max_turns)
    env.reset(seed=0)
    assert env.task.goal == case.task.goal
    total = 0.0
    for i, step in enumerate(actions):
        _, reward, terminated, truncated, info = env.step(step if isinstance(step, str) else step.spell(env.page))
        assert "error" not in info or step == BACK
        total += float(reward)
        assert (terminated or truncated) == (i + 1 == len(actions))
    env.close()
    return total, "terminated" if terminated else "truncated"


def test_there_are_templates_enough_in_four_levels() -> None:
    assert len({t.name for t in TEMPLATES}) == len(TEMPLATES) >= 8
    assert {t.level for t in TEMPLATES} == {1, 2, 3, 4}
    assert {t.level for t in TEMPLATES if t.split == "train"} == {1, 2, 3, 4}
    assert {t.split for t in TEMPLATES} == set(SPLITS)


@ALL
def test_gold_is_paid_within_the_turns_of_its_level(template: Template) -> None:
    for case in made(template):
        task = case.task
        assert (task.template, task.level) == (template.name, template.level)
        assert len(task.gold) in TURNS[template.level]
        assert play(case, task.gold) == (1.0, "terminated")


@ALL
def test_thoughts_name_a_part_of_the_goal(template: Template) -> None:
    for case in made(template):
        *thoughts, last = (step.thought for step in case.task.gold)
        assert last == "done" and all(thoughts)
        for words in map(str.split, thoughts):
            assert {*words} - {"need"} <= {*case.task.goal.split()} and words != ["need"]


@ALL
@pytest.mark.parametrize("split", SPLITS)
def test_the_environment_cheats_its_way_to_the_reward(template: Template, split: str) -> None:
    env = WebShop(task=template.name, split=split)
    for seed in SEEDS:
        env.reset(seed=seed)
        over, total, turns = False, 0.0, 0
        while not over:
            _, reward, terminated, truncated, info = env.step(env.cheat())
            over, total, turns = terminated or truncated, total + float(reward), turns + 1
        assert (total, info["success"], terminated, turns in TURNS[template.level]) == (1.0, True, True, True)
    env.close()


@ALL
def test_doing_nothing_is_not_paid(template: Template) -> None:
    for case in made(template):
        for message in ("done", "", "0"):
            assert play(case, [f'exit(message="{message}")']) == (0.0, "terminated")
        waiting = ['do(action="Wait")'] * 5
        assert play(case, waiting, max_turns=5) == (0.0, "truncated")


def mistaken(case: Case) -> list[Step]:
    """The gold way for another product than the one that the first named product of ``gold`` is."""
    task, stock = case.task, case.stock
    named = [w for step in task.gold for w in (step.argument, step.element)]
    meant = next(p for word in named for p in stock.products if p.name == word)
    shelf = [p for p in stock.products if p.department == meant.department and p.price != meant.price]
    other = next(p for p in shelf if p.name not in named)
    swap = {meant.name: other.name}
    if task.gold[-1].argument == str(meant.price):
        swap[str(meant.price)] = str(other.price)
    return [
        replace(s, element=swap.get(s.element, s.element), argument=swap.get(s.argument or "", s.argument))
        for s in task.gold
    ]


@ALL
def test_the_wrong_product_is_not_paid(template: Template) -> None:
    for case in made(template):
        assert play(case, mistaken(case)) == (0.0, "terminated")


@ALL
def test_a_way_that_ends_too_early_is_not_paid(template: Template) -> None:
    for case in made(template):
        task = case.task
        for stop in range(len(task.gold) - 1):
            assert play(case, [*task.gold[:stop], Step("exit", argument="done")]) == (0.0, "terminated")


@ALL
def test_a_wrong_answer_is_not_paid_where_an_answer_is_asked_for(template: Template) -> None:
    for case in made(template):
        task = case.task
        way, right = list(task.gold[:-1]), task.gold[-1].argument
        asked = any(isinstance(e, StringMatch) for e in task.evaluators)
        assert asked == (right != "done")
        for wrong in (str(int(right or 0) + 1), f"{right}0", f"the price is {right}", "") if asked else ():
            assert play(case, [*way, Step("exit", argument=wrong)]) == (0.0, "terminated")
        if asked:
            assert play(case, way, max_turns=len(way)) == (0.0, "truncated")
            assert play(case, [*way, Step("exit", argument=f" {right} ")]) == (1.0, "terminated")


@ALL
@pytest.mark.parametrize("damage", ["add item", "save item"])
def test_collateral_damage_is_not_paid(template: Template, damage: str) -> None:
    for case in made(template):
        task = case.task
        product = next(p for p in case.stock.products if all(p.name not in (s.element, s.argument) for s in task.gold))
        detour = [Step("Click", text) for text in ("home", product.department, product.name, damage)]
        undo = [BACK] * 4  # which brings back the first page, not what was done
        assert play(case, [*detour, *undo, *task.gold]) == (0.0, "terminated")
        harmless = [*detour[:3], *undo[:3], *task.gold]
        assert play(case, harmless) == (1.0, "terminated")


@ALL
def test_the_wrong_choice_is_not_paid(template: Template) -> None:
    for case in made(template):
        task = case.task
        chosen = [s.argument for s in task.gold if s.action == "Select Dropdown Option"]
        for right in chosen:
            wrong = next(c for choices in (STARS, ADDRESSES) if right in choices for c in choices if c != right)
            way = [replace(s, argument=wrong) if s.argument == right else s for s in task.gold]
            assert play(case, way) == (0.0, "terminated")


def test_tasks_of_state_need_no_exit() -> None:
    for template in TEMPLATES:
        case = made(template)[0]
        task = case.task
        way = task.gold[:-1]
        asked = any(isinstance(e, StringMatch) for e in task.evaluators)
        assert play(case, way, max_turns=len(way)) == (0.0 if asked else 1.0, "truncated")


def test_a_random_agent_earns_next_to_nothing() -> None:
    rewards = []
    for template in TEMPLATES:
        env = WebShop(task=template.name)
        for seed in range(12):
            observation, _ = env.reset(seed=seed)
            agent, history, over = RandomAgent((seed,)), list[Turn](), False
            while not over:
                action = asyncio.run(agent(history, observation))
                history.append(Turn(observation, action))
                observation, reward, terminated, truncated, _ = env.step(action.text)
                over = terminated or truncated
            rewards.append(float(reward))
        env.close()
    assert np.mean(rewards) < 0.03


def test_levels() -> None:
    assert WebShop(level=1).templates == ("open_product", "read_price")
    assert WebShop(level=(1,)).templates == WebShop(level=1).templates
    assert WebShop(task="unseen", split="test", level=3).templates == ("search_review",)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: WebShop(task="fly"), "no task 'fly' here; there are seen, unseen, open_product"),
        (lambda: WebShop(level=5), "no task 'seen' of level \\(5,\\) in split 'train'"),
        (lambda: WebShop(level=()), "no task 'seen' of level"),
        (lambda: WebShop(task="order_two", level=1), "no task 'order_two' of level \\(1,\\)"),
        (lambda: WebShop(task="unseen"), "no task 'unseen' of level None in split 'train'"),
        (lambda: WebShop(split="dev"), "no split 'dev'; there are train, validation, test"),
        (lambda: WebShop().reset(options={"template": "search_add"}), "draws from open_product.*not 'search_add'"),
    ],
)
def test_what_cannot_be_is_said(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()
