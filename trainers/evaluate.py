"""Measuring an agent: greedy episodes on tasks it has not seen, success with its interval."""

import time
from dataclasses import dataclass, field, fields, replace

from ..envs import UsageError
from .demonstrations import number
from .habits import Habits, habits
from .hosting import TIMEOUT, Host, find, is_url
from .models import folder, load
from .options import doc
from .player import SCRIPTED, Setting
from .report import Report, Score, Usage, limits, report
from .rollout import Limits, Spec, Trajectory
from .settings import available
from .workers import Workers
from .worlds import BROWSERS, Options, accepts, make, manners, options, templates

TESTING = 6  # the part of the seed's random numbers that evaluations draw from


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What to measure."""

    env: str = field(default="turngym/WebSuite-v0", metadata=doc("environment id, or module:id"))
    agent: str = field(metadata=doc("model folder or hub id, url of an endpoint, or: random, gold"))
    program: str = field(default="", metadata=doc("the model's own program and world, in place of env: a command"))
    tasks: int = field(default=1, metadata=doc("tasks of the program: it is told a number from 0"))
    engine: str = field(default="", metadata=doc("parser or browser, for worlds that have engines"))
    episodes: int = field(default=100, metadata=doc("episodes, the templates in turn"))
    max_turns: tuple[int, ...] = field(default=(), metadata=doc("limits to measure at; none: each task's own"))
    episode_seconds: float = field(default=0.0, metadata=doc("deadline of a program's episode; 0: none"))
    split: str = field(default="test", metadata=doc("data: train, validation or test, where a world has splits"))
    levels: tuple[int, ...] = field(default=(), metadata=doc("levels; none: all"))
    template: str = field(default="", metadata=doc("a task's name, seen or unseen; none: seen"))
    memory: str = field(default="", metadata=doc("full or compressed; none: as the agent is used to"))
    prompt: str = field(default="", metadata=doc("plain, or thinking; none: as the agent is used to"))
    max_tokens: int = field(default=0, metadata=doc("tokens of an action; 0: as the agent is used to"))
    served: str = field(default="", metadata=doc("an endpoint's model; none: the only one there"))
    key: str = field(default="", metadata=doc("environment variable that holds the endpoint's key"))
    timeout: float = field(default=TIMEOUT, metadata=doc("seconds in which the endpoint may say nothing; 0: no limit"))
    rate: float = field(default=0.0, metadata=doc("requests begun a second, of all processes; 0: no limit"))
    prices: tuple[float, ...] = field(default=(), metadata=doc("of a million tokens read, and of a million written"))
    seed: int = field(default=0, metadata=doc("root of all randomness"))
    workers: int = field(default=2, metadata=doc("processes"))
    device: str = field(default="cpu", metadata=doc("where the agent computes: cpu or cuda"))


def evaluate(evaluation: Evaluation) -> Report:
    """Plays and counts. Raises UsageError for settings that cannot be, Failure when no episode could be scored."""
    for name, least in (("episodes", 1), ("workers", 1), ("seed", 0), ("max_tokens", 0), ("episode_seconds", 0)):
        if getattr(evaluation, name) < least:
            raise UsageError(f"{name} must be at least {least}, not {getattr(evaluation, name)}")
    if not is_url(evaluation.agent):
        available(evaluation.device)
    _check_program(evaluation)
    reports = {}
    for limit in evaluation.max_turns or (None,):
        start = time.monotonic()
        played, used = _play(evaluation, world(evaluation, limit), requests=limit or 0)
        name = f"{evaluation.env}, {evaluation.engine}" if evaluation.engine else evaluation.program or evaluation.env
        seconds = time.monotonic() - start
        reports[limit or 0] = report([score(t) for t in played], environment=name, seconds=seconds, usage=used)
    return limits(reports)


def _check_program(evaluation: Evaluation) -> None:
    """Raises UsageError for what says nothing to a program, or nothing without one."""
    if not evaluation.program:
        if evaluation.tasks != 1:
            raise UsageError("tasks are those of a program: give --program, or leave out tasks")
        if evaluation.episode_seconds:
            raise UsageError("the deadline is that of a program: give --program, or leave out episode_seconds")
        return
    from .program import words

    words(evaluation.program)
    if evaluation.agent in SCRIPTED or is_url(evaluation.agent):
        raise UsageError(f"a program asks a model: it needs a model's folder as its agent, not {evaluation.agent}")
    if evaluation.tasks < 1:
        raise UsageError(f"tasks must be at least 1, not {evaluation.tasks}")
    if any(limit < 1 for limit in evaluation.max_turns):
        raise UsageError(f"max_turns must be at least 1, the requests of an episode, not {min(evaluation.max_turns)}")
    own = {f.name: f.default for f in fields(Evaluation)}
    worlds = ("env", "engine", "split", "levels", "template", "memory", "prompt")
    if idle := [name for name in worlds if getattr(evaluation, name) != own[name]]:
        said = ", ".join("--" + name.replace("_", "-") for name in idle)
        raise UsageError(f"a program is its own world: leave out {said}")


def world(evaluation: Evaluation, max_turns: int | None = None) -> Options:
    """What the evaluation's world is made with."""
    if evaluation.program:
        return ()
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
        found = habits(evaluation.agent, memory=evaluation.memory, prompt=evaluation.prompt)
        return replace(found, max_tokens=evaluation.max_tokens or found.max_tokens)
    if evaluation.memory or evaluation.max_tokens:
        raise UsageError(f"the {evaluation.agent} agent has no memory to choose, and writes no tokens")
    return Habits(prompt=evaluation.prompt or "plain")


def play(evaluation: Evaluation, made_with: Options, *, record: bool = False, each: int = 0) -> list[Trajectory]:
    """The evaluation's episodes, greedy; ``each``, if given, is how many of every template.

    With ``record`` each turn's info holds a screenshot of its page.
    """
    return _play(evaluation, made_with, record=record, each=each)[0]


def _play(
    evaluation: Evaluation, made_with: Options, *, record: bool = False, each: int = 0, requests: int = 0
) -> tuple[list[Trajectory], Usage | None]:
    """The episodes, and what they used of an endpoint; ``requests`` are the most of a program's episode."""
    host, names = _host(evaluation), _tasks(evaluation, made_with)
    scripted, browser = evaluation.agent in SCRIPTED, evaluation.engine in BROWSERS
    if not scripted and not host:
        load(evaluation.agent)  # what is not a model is said here, in one line
    used = usage(evaluation)
    setting = Setting(
        env=evaluation.env,
        worlds=(("test", made_with),),
        agent=evaluation.agent if scripted or host else folder(evaluation.agent),
        memory=used.memory,
        max_tokens=used.max_tokens,
        seed=evaluation.seed,
        slots=4 if browser else 32 if host else 8 if evaluation.program else 256,
        threads=4 if browser else 1,
        device=evaluation.device,
        record=record,
        together=not (host or evaluation.program),
        host=host,
        program=evaluation.program,
        requests=requests if evaluation.program else 0,
        limits=Limits(episode=evaluation.episode_seconds),
    )
    specs = [
        Spec(i, names[i % len(names)], number(evaluation.seed, TESTING, i), 1, "test", True)
        for i in range(each * len(names) or evaluation.episodes)
    ]
    with Workers(setting, min(evaluation.workers, len(specs))) as workers:
        workers.submit(specs)
        groups = workers.collect(len(specs))
    played = [t for g in sorted(groups, key=lambda g: g.spec.group) for t in g.trajectories]
    return played, host.usage(workers.spent) if host else None


def _host(evaluation: Evaluation) -> Host | None:
    """The endpoint, asked for its model; None for an agent of another kind."""
    said = {name: getattr(evaluation, name) for name in ("served", "key", "timeout", "rate", "prices", "device")}
    usual = {f.name: f.default for f in fields(Evaluation) if f.name in said}
    return find(evaluation.agent, min(evaluation.workers, evaluation.episodes), said, usual)


def _tasks(evaluation: Evaluation, made_with: Options) -> tuple[str, ...]:
    """What there is to play."""
    if evaluation.program:
        return tuple(map(str, range(evaluation.tasks)))
    env = make(evaluation.env, made_with)
    try:
        return templates(env)
    finally:
        env.close()


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
