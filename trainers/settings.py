"""The settings of a training run."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch

from ..envs import UsageError
from ..envs.errors import extra
from .critics import TurnCritic, ValueHead
from .curriculum import Name as Curriculum
from .estimator import Recipe
from .options import doc
from .planner import Name as Planner
from .planner import fits, planner
from .rows import DEMONSTRATION, POLICY


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that a training run depends on. The command line changes the scalars, never the recipe."""

    recipe: Recipe
    name: str = field(default="", metadata={"option": False})  # the recipe's, by which a resume finds it
    env: str = field(default="turngym/WebSuite-v0", metadata=doc("environment id, or module:id"))
    levels: tuple[int, ...] = field(default=(), metadata=doc("levels to learn on by RL; none: all"))
    engine: str = field(default="", metadata=doc("parser or browser, for worlds that have engines"))
    model: str = field(default="", metadata=doc("model folder or hub id; none: the embedded policy"))
    device: str = field(default="cpu", metadata=doc("where learner and samplers compute: cpu or cuda"))
    sampler: Literal["torch", "vllm"] = field(default="torch", metadata=doc("what plays: torch in process, or vLLM"))
    servers: tuple[str, ...] = field(default=(), metadata=doc("urls of vLLM servers; none: one is started"))
    server_seconds: float = field(default=600.0, metadata=doc("in which a server must start, answer or come back"))
    transfer: Literal["file", "nccl", "ipc"] = field(default="file", metadata=doc("how weights reach the servers"))
    dtype: str = field(default="float32", metadata=doc("that passes and samplers compute in: float32 or bfloat16"))
    processes: int = field(
        default=1, metadata=doc("that learn together, on a CUDA device each, or sharing the threads")
    )
    checkpointing: bool = field(default=False, metadata=doc("compute layers again for their gradient: less memory"))
    lora: int = field(default=0, metadata=doc("rank of adapters that are trained in the weights' place; 0: none"))
    micro_tokens: int = field(default=0, metadata=doc("tokens of one pass of learning; 0: 2048, and 16384 on cuda"))
    memory: str = field(default="", metadata=doc("full or compressed; none: as the model is used to"))
    program: str = field(default="", metadata=doc("an agent with a world of its own: its command line, see docs"))
    tasks: int = field(default=1, metadata=doc("tasks of the program: it is told a number from 0"))
    prompt: str = field(default="", metadata=doc("plain, or thinking; none: as the model is used to"))
    max_turns: int = field(default=0, metadata=doc("turns of an episode; 0: each task's own"))
    out: str = field(default="runs/webagent_r1", metadata=doc("folder of the run"))
    seed: int = field(default=0, metadata=doc("root of all randomness"))
    demonstrations: int = field(default=200, metadata=doc("gold episodes to clone first, of all levels; 0: none"))
    clone_epochs: int = field(default=10, metadata=doc("most epochs over the demonstrations"))
    clone_lr: float = field(default=1e-3, metadata=doc("learning rate of cloning"))
    validation: int = field(default=100, metadata=doc("validation tasks that choose the epoch"))
    rehearsal: int = field(default=10, metadata=doc("demonstrations in every update"))
    curriculum: Curriculum = field(default="spread", metadata=doc("which task a group plays"))
    planner: Planner = field(
        default="plain", metadata=doc("groups whole (plain), in stages until a success, or resample for spread")
    )
    stages: int = field(default=2, metadata=doc("of planner stages: parts in which a group is played"))
    resample: int = field(default=10, metadata=doc("of planner resample: groups to drop at most for each that is kept"))
    seeds: int = field(
        default=0, metadata=doc("of the world for each task, which come again; 0: a new one every group")
    )
    reuse: int = field(default=0, metadata=doc("successes kept of each task and seed, for groups without one; 0: none"))
    steps: int = field(default=140, metadata=doc("updates"))
    groups: int = field(default=24, metadata=doc("groups an update"))
    size: int = field(default=8, metadata=doc("episodes a group"))
    lr: float = field(default=6e-4, metadata=doc("learning rate of the updates"))
    temperature: float = field(default=1.0, metadata=doc("of sampling in training"))
    max_lag: int = field(default=0, metadata=doc("updates that a sampled token may be old; 0: synchronous"))
    exact: bool = field(default=True, metadata=doc("at max_lag 0: the same bits always; episodes wait for each other"))
    soft: bool = field(default=False, metadata=doc("never wait for slow episodes: max_lag is then no bound"))
    refill: int = field(default=0, metadata=doc("times a failed episode is played again; 0: its group shrinks"))
    action_seconds: float = field(default=0.0, metadata=doc("deadline of an action; 0: none"))
    step_seconds: float = field(default=0.0, metadata=doc("deadline of a world's step; each world gets a process"))
    episode_seconds: float = field(default=0.0, metadata=doc("deadline of an episode; each world gets a process"))
    stall_seconds: float = field(default=60.0, metadata=doc("waiting after which the watchdog says what is stuck"))
    max_failures: float = field(default=0.25, metadata=doc("share of failed episodes that stops the run"))
    workers: int = field(default=2, metadata=doc("rollout processes"))
    threads: int = field(default=2, metadata=doc("torch threads of the learner"))
    slots: int = field(default=0, metadata=doc("episodes at once in a process; 0: all, with browsers 8"))
    world_threads: int = field(default=0, metadata=doc("threads of worlds in a process; 0: 1, with browsers 4"))
    keep: int = field(default=2, metadata=doc("checkpoints kept"))
    checkpoint_every: int = field(default=10, metadata=doc("updates between checkpoints"))
    browser_every: int = field(
        default=20, metadata=doc("updates between groups also played in Chromium, at max_lag 0; 0: never")
    )


def scalars(run: Run) -> dict[str, Any]:
    """The settings but the recipe, as JSON holds them."""
    values = {f.name: getattr(run, f.name) for f in fields(run) if f.name != "recipe"}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def notes(run: Run) -> list[str]:
    """What of the recipe does nothing, or other than it says, with these settings."""
    lagged = bool(run.max_lag or run.soft)
    shown = run.demonstrations and run.rehearsal
    lost = [] if shown else [t.name for t in run.recipe.terms if POLICY not in t.rows]
    still = "an update is one step, which starts where every ratio is 1 but for rounding"
    loose = run.sampler == "vllm" and run.exact and not lagged
    return [
        *(["vLLM's batches depend on time: exact is off, and two runs differ in their last bits"] if loose else []),
        *(["episodes of programs wait for nobody: the run is not repeated bit for bit"] if run.program else []),
        *(f"the mask of {name} never acts: {still}" for name in run.recipe.idle(lagged)),
        *(
            f"{name} has no importance weight: what older weights played biases it"
            for name in run.recipe.drifts(lagged)
        ),
        *(f"there are no demonstrations to rehearse, and so no {name}" for name in lost),
    ]


def exact(run: Run) -> bool:
    """Whether the run computes the same bits always (rule 10)."""
    return run.exact and run.sampler == "torch" and run.max_lag == 0 and not run.soft


NATURAL = (
    "demonstrations", "clone_epochs", "rehearsal", "browser_every", "max_lag", "max_turns", "refill", "action_seconds",
    "step_seconds", "episode_seconds", "world_threads", "slots", "lora", "micro_tokens", "seeds",
)  # fmt: skip


def check(run: Run) -> None:
    """Raises UsageError for numbers out of range and for a device that is not there."""
    least = {
        "steps": 0, "groups": 1, "size": 2 if run.recipe.compares else 1, "workers": 1, "threads": 1, "processes": 1,
        "checkpoint_every": 1, "validation": 1, "keep": 1, "tasks": 1,
    }  # fmt: skip
    for name, low in least.items():
        if getattr(run, name) < low:
            raise UsageError(f"{name} must be at least {low}, not {getattr(run, name)}")
    for name in NATURAL:
        if getattr(run, name) < 0:
            raise UsageError(f"{name} cannot be negative")
    if run.seed < 0:
        raise UsageError(f"seed must be at least 0, not {run.seed}")
    if run.rehearsal and DEMONSTRATION not in run.recipe.sources:
        raise UsageError(f"no term of {run.name} reads demonstrations: leave out rehearsal, or set it to 0")
    if run.world_threads and (run.step_seconds or run.episode_seconds):
        raise UsageError("a world with a deadline has a process and a thread of its own: leave out world_threads")
    if run.action_seconds and exact(run):
        raise UsageError("with exact an action waits for those of all episodes: action_seconds needs --no-exact")
    if not run.stall_seconds > 0:
        raise UsageError(f"stall_seconds must be above 0, not {run.stall_seconds}")
    if not (run.temperature > 0 and run.lr > 0 and run.clone_lr > 0 and 0 <= run.max_failures < 1):
        raise UsageError("temperature, lr and clone_lr must be above 0, max_failures a share below 1")
    if run.sampler == "torch" and run.servers:
        raise UsageError("servers are vLLM's: give --sampler vllm too, or leave them out")
    if run.sampler == "torch" and run.server_seconds != Run.server_seconds:
        raise UsageError("server_seconds are those of vLLM's servers: give --sampler vllm too, or leave them out")
    if not run.server_seconds > 0:
        raise UsageError(f"server_seconds must be above 0, not {run.server_seconds}")
    if run.transfer != "file" and not (run.sampler == "vllm" and run.device.startswith("cuda")):
        raise UsageError(f"weights go by {run.transfer} from a GPU to vLLM: give --sampler vllm and --device cuda")
    if run.program or run.tasks > 1:
        _check_program(run)
    _check_plan(run)
    available(run.device)
    _check_learner(run)


def _check_plan(run: Run) -> None:
    """Raises UsageError for what says nothing of how groups are played."""
    planner(run.planner, groups=run.groups, size=run.size, stages=run.stages, most=run.resample)
    for name in ("stages", "resample"):
        if getattr(run, name) != getattr(Run, name) and run.planner != name:
            raise UsageError(f"{name} is of the planner {name}: give --planner {name} too, or leave it out")
    if run.reuse and not run.seeds:
        raise UsageError("without --seeds no task comes twice from one seed, and so no success can be used again")
    fits(run.recipe, planner=run.planner, size=run.size, stages=run.stages, resample=run.resample, reuse=run.reuse)


def _check_learner(run: Run) -> None:
    """Raises UsageError for what cannot be combined in a learner, MissingExtra without ``peft`` for LoRA."""
    if run.dtype not in ("float32", "bfloat16"):
        raise UsageError(f"dtype must be float32 or bfloat16, not {run.dtype}")
    device = torch.device(run.device)
    if run.processes > 1 and device.index is not None:
        raise UsageError(f"several processes take devices from cuda:0 on: give --device {device.type} without a number")
    if device.type == "cuda" and run.processes > torch.cuda.device_count():
        raise UsageError(f"processes must be at most {torch.cuda.device_count()}, one for each CUDA device")
    copies = isinstance(run.recipe.critic, (ValueHead, TurnCritic))
    if copies and (run.processes > 1 or run.lora or run.dtype != "float32" or run.checkpointing):
        raise UsageError(
            f"the critic of {run.name or 'this recipe'} is trained on weights of its own, by one process in float32: "
            "leave out processes, lora, dtype and checkpointing"
        )
    if run.lora and run.dtype != "float32":
        raise UsageError(
            f"samplers get merged weights, which {run.dtype} rounds otherwise than weights and adapters apart: "
            "leave out lora or dtype"
        )
    if run.lora:
        extra("peft", "peft")


# what a program does without, and the value that says so; the rest keeps its meaning
WORLDLESS: dict[str, Any] = {
    "env": "", "levels": (), "engine": "", "memory": "", "prompt": "", "demonstrations": 0, "rehearsal": 0,
    "exact": False, "action_seconds": 0.0, "step_seconds": 0.0, "world_threads": 0, "browser_every": 0,
}  # fmt: skip


def worldless(run: Run) -> Run:
    """``run`` for a program: without what only worlds of this package have."""
    return replace(run, **WORLDLESS)


def _check_program(run: Run) -> None:
    """Raises UsageError for what says nothing to a program, or nothing without one."""
    if not run.program:
        raise UsageError("tasks are those of a program: give --program, or leave out tasks")
    from .program import words

    words(run.program)
    if idle := [name for name, value in WORLDLESS.items() if getattr(run, name) != value]:
        said = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        why = "episodes of programs cannot wait for each other" if idle == ["exact"] else "a program is its own world"
        raise UsageError(f"{why}: leave out {said}")


def available(device: str) -> None:
    """Raises UsageError unless torch has this device: cpu, cuda or cuda:N."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"no device {device!r}; there are cpu, cuda and cuda:N") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {device} is not there: this torch sees {torch.cuda.device_count()} CUDA devices")
