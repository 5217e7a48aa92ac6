"""WebAgent-R1 (arXiv 2505.16421): a behaviour-cloned warm-up, then M-GRPO on a binary reward at the end."""

from dataclasses import replace

from ..masks import Truncate
from ..settings import Run
from .m_grpo import m_grpo


def webagent_r1() -> Run:
    """The main job; figures of the paper's own run (lr 1e-6, G = 4, clip norm 0.01) suit models of billions [P]."""
    return Run(name="webagent_r1", recipe=m_grpo(low=0.2, high=0.28, clone=0.2))


def webagent_r1_zero() -> Run:
    """WebAgent-R1-Zero: RL alone, without the warm-up and without its cloning term."""
    run = replace(webagent_r1(), name="webagent_r1_zero", out="runs/webagent_r1_zero", demonstrations=0, rehearsal=0)
    return replace(run, recipe=m_grpo(low=0.2, high=0.28, clone=0.0))


def webagent_r1_cot() -> Run:
    """WebAgent-R1-CoT: demonstrations think before each action, and so does the agent.

    Thoughts are sampled, remembered and trained like every other token of an action; the released code gives them
    no loss by default [P]. The paper's thoughts are long ones of a reasoning model; ours name the part of the goal
    that the action serves [D].
    """
    return replace(webagent_r1(), name="webagent_r1_cot", out="runs/webagent_r1_cot", prompt="thinking")


def webagent_r1_async() -> Run:
    """The main job for worlds that wait: updates learn from episodes that weights of up to four updates ago began.

    Truncated importance sampling to the policy at the start of each update makes up for it [D].
    """
    run = replace(webagent_r1(), name="webagent_r1_async", out="runs/webagent_r1_async", max_lag=4)
    return replace(run, recipe=m_grpo(low=0.2, high=0.28, clone=0.2, correction=Truncate(2.0)))
