"""Measuring an agent: greedy episodes on tasks it has not seen, success with its interval."""

import time
from dataclasses import dataclass, field

from ..envs import UsageError
from .demonstrations import number
from .habits import Habits, habits
from .models import folder, load
from .options import doc
from .player import SCRIPTED, Setting
from .report import Report, Score, limits, report
from .rollout import Spec, Trajectory
from .settings import available
from .workers import Workers
from .worlds import BROWSERS, Options, accepts, make, manners, options, templates

TESTING = 6  # the part of the seed's random numbers that evaluations draw from


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What to measure."""

    env: str = field(default="turngym/WebSuite-v0", metadata=doc("environment id, or module:id"))
    agent: str = field(metadata=doc("model folder or hub id, or: random, gold"))
    engine: str = field(default="", metadata=doc("parser or browser, for worlds that have engines"))
    episodes: int = field(default=100, metadata=doc("episodes, the templates in turn"))
    max_turns: tuple[int, ...] = field(default=(), metadata=doc("limits to measure at; none: each task's own"))
    split: str = field(default="test", metadata=doc("data: train, validation or test, where a world has splits"))
    levels: tuple[int, ...] = field(default=(), metadata=doc("levels; none: all"))
    template: str = field(default="", metadata=doc("a task's name, seen or unseen; none: seen"))
    memory: str = field(default="", metadata=doc("full or compressed; none: as the agent is used to"))
    prompt: str = field(default="", metadata=doc("plain, or thinking; none: as the agent is used to"))
    seed: int = field(default=0, metadata=doc("root of all randomness"))
    workers: int = field(default=2, metadata=doc("processes"))
    device: str = field(default="cpu", metadata=doc("where the agent computes: cpu or cuda"))


def evaluate(evaluation: Evaluation) -> Report:
    """Plays and counts. Raises UsageError for settings that cannot be, Failure when no episode could be scored."""
    for name, least in (("episodes", 1), ("workers", 1), ("seed", 0)):
        if getattr(evaluation, name) < least:
            raise UsageError(f"{name} must be at least {least}, not {getattr(evaluation, name)}")
    available(evaluation.device)
    reports = {}
    for limit in evaluation.max_turns or (None,):
        start = time.monotonic()
        played = play(evaluation, world(evaluation, limit))
        name = f"{evaluation.env}, {evaluation.engine}" if evaluation.engine else evaluation.env
        reports[limit or 0] = report([score(t) for t in played], environment=name, seconds=time.monotonic() - start)
    return limits(reports)


def world(evaluation: Evaluation, max_turns: int | None = None) -> Options:
    """What the evaluation's world is made with."""
    env = evaluation.env
    split = evaluation.split if evaluation.split != "test" or accepts(env, "split") else None
    return options(
        env,
        engine=evaluation.engine or None,
        max_turns=max_turns,
        split=split,
        level=evaluation.levels or None,
        task=evaluation.template or None,
        **manners(env, usage(evaluation)),
    )


def usage(evaluation: Evaluation) -> Habits:
    """The agent's habits, with what the evaluation asks for in their place; a scripted agent has none."""
    if evaluation.agent not in SCRIPTED:
        return habits(evaluation.agent, memory=evaluation.memory, prompt=evaluation.prompt)
    if evaluation.memory:
        raise UsageError(f"the {evaluation.agent} agent has no memory to choose")
    return Habits(prompt=evaluation.prompt or "plain")


def play(evaluation: Evaluation, made_with: Options, *, record: bool = False, each: int = 0) -> list[Trajectory]:
    """The evaluation's episodes, greedy; ``each``, if given, is how many of every template.

    With ``record`` each turn's info holds a screenshot of its page.
    """
    env = make(evaluation.env, made_with)
    try:
        names = templates(env)
    finally:
        env.close()
    scripted, browser = evaluation.agent in SCRIPTED, evaluation.engine in BROWSERS
    if not scripted:
        load(evaluation.agent)  # what is not a model is said here, in one line
    used = usage(evaluation)
    setting = Setting(
        env=evaluation.env,
        worlds=(("test", made_with),),
        agent=evaluation.agent if scripted else folder(evaluation.agent),
        memory=used.memory,
        max_tokens=used.max_tokens,
        seed=evaluation.seed,
        slots=4 if browser else 256,
        threads=4 if browser else 1,
        device=evaluation.device,
        record=record,
    )
    specs = [
        Spec(i, names[i % len(names)], number(evaluation.seed, TESTING, i), 1, "test", True)
        for i in range(each * len(names) or evaluation.episodes)
    ]
    with Workers(setting, min(evaluation.workers, len(specs))) as workers:
        workers.submit(specs)
        groups = workers.collect(len(specs))
    return [t for g in sorted(groups, key=lambda g: g.spec.group) for t in g.trajectories]


def score(trajectory: Trajectory) -> Score:
    """What a report counts; worlds that name no success succeed by a positive return."""
    info = trajectory.info
    return Score(
        template=str(info.get("template", trajectory.task or "all")),
        level=int(info.get("level", 1)),
        success=bool(info.get("success", trajectory.reward > 0)),
        turns=len(trajectory.turns),
        outcome=trajectory.outcome,
    )
