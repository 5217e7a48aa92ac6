"""The papers whose claims are checked, one function each."""

from dataclasses import dataclass, replace
from pathlib import Path

from ..agents.chat import Prompter
from ..agents.memory import MEMORIES
from ..agents.tiny import BASE
from ..envs.web.suite import WebSuite
from .demo import TRAINED
from .demonstrations import demonstrate
from .evaluate import Evaluation
from .models import load
from .parts import Parts
from .recipes import webagent_r1 as r1_run
from .recipes import webagent_r1_cot, webagent_r1_zero
from .report import Report
from .reproduce import Claim, Paper, Reproduction, above, gains, percent
from .reproduce_ar3po import ar3po
from .run import WARMUP
from .settings import Run
from .statistics import Rate

LIMITS = (5, 10, 15, 20, 30)  # turns
VARIANTS = {"webagent_r1": r1_run, "webagent_r1_zero": webagent_r1_zero, "webagent_r1_cot": webagent_r1_cot}
STEPS = 40  # of RL in each run: enough for the order of effects, so that all of it takes a quarter of an hour


@dataclass(frozen=True, slots=True)
class _Trained:
    """A run measured after its warm-up and after RL."""

    folder: Path
    warmup: Report
    rl: Report


def webagent_r1(settings: Reproduction) -> list[Claim]:
    """WebAgent-R1 (arXiv 2505.16421): start, warm-up and R1, its variants Zero and CoT, prompts and turn limits.

    The paper's figures are of Qwen2.5-3B on WebArena-Lite [P/S]. Ours are of the embedded policy, trained as in the
    demonstration but for a shorter RL (demonstrations of all levels, RL on 1 to 3), on held-out data of the embedded
    suite: levels 1 to 4 in 200 greedy episodes a figure, with the parser engine.
    """
    out = Path(settings.out or "runs/reproduce/webagent_r1")
    runs = {
        name: replace(run(), seed=settings.seed, levels=TRAINED, steps=STEPS, out=str(out / name))
        for name, run in VARIANTS.items()
    }
    parts = Parts(out / "parts")
    parts.claim(*runs.values())
    ask = Evaluation(agent=str(BASE), engine="parser", episodes=200, seed=settings.seed)
    plain, thinking = (parts.report(f"start, {p}", replace(ask, prompt=p)) for p in ("plain", "thinking"))
    r1, zero, cot = (
        _measured(parts, runs[name], ask) for name in ("webagent_r1", "webagent_r1_zero", "webagent_r1_cot")
    )
    agents = {"start": BASE, "warm-up": r1.folder / WARMUP, "R1": r1.folder}
    limits = {
        name: parts.report(f"{name}, limits", replace(ask, agent=str(folder), max_turns=LIMITS))
        for name, folder in agents.items()
    }
    return [
        *_stages(plain.success, r1, zero),
        *_thoughts(plain.success, thinking.success, r1, cot),
        *_turns(limits),
        _contexts(),
    ]


def _measured(parts: Parts, run: Run, ask: Evaluation) -> _Trained:
    name, folder = Path(run.out).name, Path(run.out)
    parts.train(f"{name}, train", run)
    warmup = parts.report(f"{name}, warm-up", replace(ask, agent=str(folder / WARMUP)))
    return _Trained(folder, warmup, parts.report(f"{name}, RL", replace(ask, agent=str(folder))))


def _stages(start: Rate, r1: _Trained, zero: _Trained) -> list[Claim]:
    warm, end, alone = r1.warmup.success, r1.rl.success, zero.rl.success
    return [
        _rises("cloning improves on the start", "6.1 -> 20.0", start, warm),
        _rises("RL improves on cloning", "20.0 -> 33.9", warm, end),
        _rises("Zero: without cloning RL gains nothing", "6.1 -> 4.8", start, alone, wanted=False),
        _beats("Zero ends below cloning alone", "4.8 < 20.0", alone, warm),
    ]


def _thoughts(plain: Rate, thinking: Rate, r1: _Trained, cot: _Trained) -> list[Claim]:
    (warm, end), (cloned, trained) = ((run.warmup.success, run.rl.success) for run in (r1, cot))
    return [
        _beats("untrained, a thinking prompt beats a plain one", "3.2 < 6.1", plain, thinking),
        _beats("CoT: thoughts help cloning", "20.0 < 24.5", warm, cloned),
        _rises("CoT: RL improves on cloning", "24.5 -> 30.3", cloned, trained),
        _outgrows("CoT: RL gains less than without thoughts", "+5.8 < +13.9", (cloned, trained), (warm, end)),
    ]


def _turns(limits: dict[str, Report]) -> list[Claim]:
    low, high = str(LIMITS[0]), str(LIMITS[-1])
    ends = {n: (r.by_max_turns[low].success, r.by_max_turns[high].success) for n, r in limits.items()}
    turns = f"{low} to {high} turns"
    return [
        _rises(f"{turns}: R1 gains", "17 -> 34", *ends["R1"]),
        _outgrows(f"{turns}: R1 gains more than cloning", "yes", ends["warm-up"], ends["R1"]),
        _rises(f"{turns}: the start gains nothing", "flat", *ends["start"], wanted=False),
    ]


def _contexts() -> Claim:
    """The last context of gold episodes of level 4, with and without compression, in tokens."""
    env = WebSuite(level=4, instructions=False)
    prompter = Prompter(load("")[1])
    sizes = {}
    for name, memory in MEMORIES.items():
        played = demonstrate(env, env.templates, 20, prompter, memory, 0)
        sizes[name] = sum(len(t.turns[-1].action.calls[-1].request.ids) for t in played) / len(played)
    env.close()
    ours = f"{sizes['compressed']:.0f} against {sizes['full']:.0f} tokens"
    holds = sizes["compressed"] < sizes["full"] / 2
    return Claim("compression: a context grows with actions, not pages", "O(|s| + t|a|), not O(t|s|)", ours, holds)


def _rises(claim: str, paper: str, before: Rate, after: Rate, *, wanted: bool = True) -> Claim:
    """A step up beyond chance, or none where none is ``wanted``."""
    return Claim(claim, paper, f"{percent(before)} -> {percent(after)}", above(after, before) is wanted)


def _beats(claim: str, paper: str, low: Rate, high: Rate) -> Claim:
    sign = "<" if low.mean < high.mean else ">="
    return Claim(claim, paper, f"{percent(low)} {sign} {percent(high)}", above(high, low))


def _outgrows(claim: str, paper: str, small: tuple[Rate, Rate], large: tuple[Rate, Rate]) -> Claim:
    """The second step (from, to) is larger than the first beyond chance."""
    steps = [to.mean - start.mean for start, to in (small, large)]
    ours = (" < " if steps[0] < steps[1] else " >= ").join(f"{100 * step:+.1f}" for step in steps)
    return Claim(claim, paper, ours, gains(small, large))


PAPERS: dict[str, Paper] = {"webagent_r1": webagent_r1, "ar3po": ar3po}
