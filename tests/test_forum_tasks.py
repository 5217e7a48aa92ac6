"""Every task of the forum: the gold way pays 1 and nothing else does."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import seeding

from turngym.agents import Turn
from turngym.agents.scripted import RandomAgent
from turngym.envs.web import Step, StringMatch, Task, Template
from turngym.envs.web.forum import TEMPLATES, WebForum
from turngym.envs.web.forum.data import KINDS, Talk, Topic, grow
from turngym.envs.web.task import click
from turngym.envs.web.words import SPLITS, Split

TURNS = {1: range(1, 3), 2: range(3, 6), 3: range(6, 10), 4: range(10, 16)}
WANTED = {
    "open_topic": (1, "train"),
    "read_votes": (1, "train"),
    "vote_one": (2, "train"),
    "join_one": (2, "train"),
    "comment_one": (2, "train"),
    "follow_author": (2, "validation"),
    "search_vote": (2, "validation"),
    "search_votes": (2, "train"),
    "walk_votes": (2, "test"),
    "post_one": (3, "train"),
    "vote_two": (3, "train"),
    "join_two": (3, "test"),
    "vote_three": (4, "train"),
    "comment_two": (4, "train"),
}
SEEDS = range(3)
BACK = "go_backward()"
ALL = pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
Actions = Sequence[Step | str]


@dataclass(frozen=True, slots=True)
class Case:
    """One episode, and what its forum holds."""

    template: Template
    split: Split
    seed: int
    task: Task
    talk: Talk


def made(template: Template) -> list[Case]:
    """The template's episodes in every split, over several seeds."""
    found = []
    for split in SPLITS:
        for seed in SEEDS:
            env = WebForum(task=template.name, split=split)
            env.reset(seed=seed)
            env.close()
            rng = seeding.np_random(seed)[0]
            rng.integers(1)  # as the environment draws the template
            found.append(Case(template, split, seed, env.task, grow(rng, split)))
    return found


def play(case: Case, actions: Actions, max_turns: int = 40) -> tuple[float, str]:
    """What ``actions`` earn, and how the episode ended; every action but the last goes on, none but BACK is refused."""
    env = WebForum(task=case.template.name, split=case.split, max_turns=max_turns)
    env.reset(seed=case.seed)
    total = 0.0
    for i, step in enumerate(actions):
        _, reward, terminated, truncated, info = env.step(step if isinstance(step, str) else step.spell(env.page))
        assert "error" not in info or step == BACK, info
        total += float(reward)
        assert (terminated or truncated) == (i + 1 == len(actions))
    env.close()
    return total, "terminated" if terminated else "truncated"


def asks(task: Task) -> bool:
    """Whether an answer is wanted."""
    return any(isinstance(e, StringMatch) for e in task.evaluators)


def spelled(task: Task) -> set[str]:
    return {text for step in task.gold for text in (step.element, step.argument) if text}


def test_templates_are_seen_or_kept_and_of_four_levels() -> None:
    assert {t.name: (t.level, t.split) for t in TEMPLATES} == WANTED and len(TEMPLATES) == len(WANTED)


@ALL
def test_gold_is_paid_within_the_turns_of_its_level(template: Template) -> None:
    for case in made(template):
        assert (case.task.template, case.task.level) == (template.name, template.level)
        assert len(case.task.gold) in TURNS[template.level]
        assert all(step.thought for step in case.task.gold)
        assert play(case, case.task.gold) == (1.0, "terminated")


@ALL
def test_doing_nothing_is_not_paid(template: Template) -> None:
    for case in made(template):
        for message in ("done", "", "0"):
            assert play(case, [f'exit(message="{message}")']) == (0.0, "terminated")
        assert play(case, ['do(action="Wait")'] * 5, max_turns=5) == (0.0, "truncated")


def mistakes(case: Case) -> list[dict[str, str]]:
    """What to replace in gold by something else of its kind; each one spoils the task."""
    talk, said = case.talk, spelled(case.task)
    found = list[dict[str, str]]()
    for topic in (t for t in talk.topics if t.title in said):
        shelf = [t for t in talk.topics if t.board == topic.board and t.author != topic.author]
        other = next(t for t in shelf if t.title not in said and t.votes != topic.votes)
        found.append({topic.title: other.title, str(topic.votes): str(other.votes), topic.author: other.author})
    if not found:  # the task is about boards, of which one is not named
        other_board = next(b for b in talk.boards if b not in said)
        found += [{board: other_board} for board in talk.boards if board in said]
    found += [{text: talk.unwritten[-1]} for s in case.task.gold if s.action == "Type" and (text := s.argument)]
    found += [{k: KINDS[i - 1]} for i, k in enumerate(KINDS) if k in said]
    return found + ([{"vote up": "vote down"}] if "vote up" in said else [])


def changed(gold: Sequence[Step], swap: dict[str, str]) -> list[Step]:
    return [
        replace(s, element=swap.get(s.element, s.element), argument=swap.get(s.argument or "", s.argument))
        for s in gold
    ]


@ALL
def test_a_mistake_is_not_paid(template: Template) -> None:
    for case in made(template):
        assert mistakes(case)
        for swap in mistakes(case):
            way = changed(case.task.gold, swap)
            assert way != list(case.task.gold) and play(case, way) == (0.0, "terminated"), swap


@ALL
def test_a_way_that_ends_too_early_is_not_paid(template: Template) -> None:
    for case in made(template):
        for stop in range(len(case.task.gold) - 1):
            assert play(case, [*case.task.gold[:stop], Step("exit", argument="done")]) == (0.0, "terminated")


@ALL
def test_a_wrong_answer_is_not_paid_where_an_answer_is_asked_for(template: Template) -> None:
    for case in made(template):
        way, right = list(case.task.gold[:-1]), case.task.gold[-1].argument
        assert asks(case.task) == (right != "done")
        for wrong in (str(int(right or 0) + 1), f"{right}0", f"votes {right}", "") if asks(case.task) else ():
            assert play(case, [*way, Step("exit", argument=wrong)]) == (0.0, "terminated")
        assert play(case, way, max_turns=len(way)) == (0.0 if asks(case.task) else 1.0, "truncated")


def damages(talk: Talk, topic: Topic) -> dict[str, list[Step]]:
    """Ways from the topic's board to a change; the last step makes it."""
    write = [*click("write post"), Step("Type", "title", talk.unwritten[-1])]
    return {
        "join": [*click("join")],
        "vote": [*click(topic.title, "vote down")],
        "comment": [*click(topic.title), Step("Type", "comment", "odd"), *click("send comment")],
        "follow": [*click(topic.title, topic.author, "follow")],
        "post": [*write, Step("Select Dropdown Option", "kind", "warning"), *click("send post")],
    }


@ALL
@pytest.mark.parametrize("damage", ["join", "vote", "comment", "follow", "post"])
def test_collateral_damage_is_not_paid(template: Template, damage: str) -> None:
    for case in made(template):
        free = [t for t in case.talk.topics if not {t.board, t.title, t.author} & spelled(case.task)]
        *way, last = damages(case.talk, free[0])[damage]
        detour = [*click("home", free[0].board), *way]
        undo = [BACK] * 6  # which brings back the first page, not what was done
        assert play(case, [*detour, last, *undo, *case.task.gold]) == (0.0, "terminated")
        assert play(case, [*detour, *undo, *case.task.gold]) == (1.0, "terminated")


@ALL
def test_what_was_taken_back_is_no_damage(template: Template) -> None:
    for case in made(template):
        board = next(b for b in case.talk.boards if b not in spelled(case.task) | {case.task.start[0].path[7:]})
        detour = click("home", board, "join", "leave")
        assert play(case, [*detour, *[BACK] * 4, *case.task.gold]) == (1.0, "terminated")


def test_a_new_title_is_of_the_split_and_on_no_board() -> None:
    for template in (t for t in TEMPLATES if t.name == "post_one"):
        for case in made(template):
            (title,) = (s.argument for s in case.task.gold if s.action == "Type")
            assert title in case.talk.unwritten and title not in {t.title for t in case.talk.topics}


def test_the_same_seed_is_the_same_episode_and_another_seed_another() -> None:
    one, two = WebForum(), WebForum()
    seen = [one.reset(seed=seed) for seed in range(20)]
    assert seen == [two.reset(seed=seed) for seed in range(20)]
    assert len({info["goal"] for _, info in seen}) == 20
    one.close()
    two.close()


def test_a_random_agent_earns_next_to_nothing() -> None:
    rewards = {template.name: list[float]() for template in TEMPLATES}
    for template in TEMPLATES:
        env = WebForum(task=template.name)
        for seed in range(25):
            observation, _ = env.reset(seed=seed)
            agent, history, over = RandomAgent((seed,)), list[Turn](), False
            while not over:
                action = asyncio.run(agent(history, observation))
                history.append(Turn(observation, action))
                observation, reward, terminated, truncated, _ = env.step(action.text)
                over = terminated or truncated
            rewards[template.name].append(float(reward))
        env.close()
    assert np.mean([*rewards.values()]) < 0.02
    paid = {template.level for template in TEMPLATES if sum(rewards[template.name])}
    assert paid <= {1, 2} and max(np.mean(earned) for earned in rewards.values()) <= 0.12


def test_the_environment_is_registered() -> None:
    env = gym.make("turngym.envs:turngym/WebForum-v0", task="unseen", split="validation")
    world = env.unwrapped
    assert isinstance(world, WebForum) and world.templates == ("follow_author", "search_vote")
    env.close()
