"""Demonstrations: gold episodes of a world in the exact tokens that the policy would have read and written."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..agents import Action, Call, Request, Sample, Turn
from ..agents.chat import Prompter
from ..agents.memory import Memory
from ..envs import Env, UsageError
from .rollout import Outcome, Trajectory, cheat
from .rows import DEMONSTRATION

ENDLESS = 1000  # turns


def lengths(env: Env, templates: Sequence[str], seed: int) -> dict[str, int]:
    """Turns of one gold episode of each template; raises UsageError where gold does not end an episode."""
    found = {}
    for template in templates:
        env.reset(seed=seed, options={"template": template} if template else None)
        turns, over = 0, False
        while not over:
            _bound(turns, template)
            _, _, terminated, truncated, _ = env.step(cheat(env))
            turns, over = turns + 1, terminated or truncated
        found[template] = turns
    return found


def shares(turns: Mapping[str, int], count: int) -> dict[str, int]:
    """``count`` dealt by largest remainders: half evenly, half in proportion to ``turns``.

    A long task needs more of them, and a short one of which there are but two or three is learnt by heart.
    """
    whole = sum(turns.values())
    exact = {name: count / 2 * (1 / len(turns) + n / whole) for name, n in turns.items()}
    dealt = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda n: dealt[n] - exact[n])[: count - sum(dealt.values())]:
        dealt[name] += 1
    return dealt


def demonstrate(
    env: Env, templates: Sequence[str], count: int, prompter: Prompter, memory: Memory, seed: int
) -> list[Trajectory]:
    """``count`` gold episodes, dealt to the templates by ``shares``, numbered by negative groups.

    Raises UsageError when the world has no gold actions, or its gold does not succeed.
    """
    if not count:
        return []
    dealt = shares(lengths(env, templates, seed), count)
    plan = [name for name in templates for _ in range(dealt[name])]
    return [_gold(env, name, number(seed, i), -1 - i, prompter, memory) for i, name in enumerate(plan)]


def _gold(env: Env, template: str, seed: int, group: int, prompter: Prompter, memory: Memory) -> Trajectory:
    """One gold episode, with the calls that a policy would have made."""
    observation, _ = env.reset(seed=seed, options={"template": template} if template else None)
    turns: list[Turn] = []
    terminated = truncated = False
    while not (terminated or truncated):
        _bound(len(turns), template)
        text = cheat(env)
        request = Request(prompter.prompt(list(memory(turns, observation))), stop=prompter.stop)
        action = Action(text, (Call("policy", request, Sample(prompter.encode(text), (), (), "stop")),))
        seen = observation
        observation, reward, terminated, truncated, info = env.step(text)
        turns.append(Turn(seen, action, float(reward), info))
    outcome: Outcome = "terminated" if terminated else "truncated"
    name = f"demonstration.{-group}"
    gold = Trajectory(name, template, seed, group, 0, tuple(turns), observation, outcome, source=DEMONSTRATION)
    if not gold.reward > 0:
        raise UsageError(f"the gold actions of task {template!r} (seed {seed}) earn no reward")
    return gold


def _bound(turns: int, template: str) -> None:
    if turns >= ENDLESS:
        raise UsageError(f"the gold actions of task {template!r} do not end an episode within {ENDLESS} turns")


def number(*key: int) -> int:
    """A seed of 31 bits that depends on the non-negative ``key`` alone."""
    return int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)
