"""A run's own episodes, learned from again without any world: the same weights, bit for bit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..envs import CheckpointError
from .checkpoint import Shelf
from .curricula import CURRICULA
from .episodes import count, demonstrations, stored
from .files import write_text
from .habits import habits, write
from .log import Log
from .models import tokenizer
from .progress import Progress
from .run import SETTINGS, WARMUP, Trained, keep_agent, learner, team, threads
from .settings import Run, check, scalars
from .study import Study

# nothing is played: whatever played need not be here
UNPLAYED: dict[str, Any] = {
    "sampler": "torch", "servers": (), "transfer": "file", "program": "", "tasks": 1, "action_seconds": 0.0,
    "planner": "plain", "stages": 2, "resample": 10,
}  # fmt: skip


def replay(run: Run, source: Path | str) -> Trained:
    """Train ``run`` on the episodes stored in ``source``, from the weights after that run's warm-up, into ``run.out``.

    With the settings of that run, on the same machine and with as many threads, the weights are that run's; with
    another recipe or learning rate it is the same data learned from otherwise. Raises CheckpointError where episodes,
    checkpoints or the weights after the warm-up are missing.
    """
    check(replace(run, **UNPLAYED))
    source, out = Path(source), Path(run.out)
    if out.resolve() == source.resolve():
        raise CheckpointError(f"a replay needs a folder of its own: --out, other than {source}")
    torch.set_num_threads(threads(run))
    words = tokenizer(str(source / WARMUP))
    demos, total = demonstrations(source), count(source)
    names = Shelf(source).newest()["study"]["tasks"]
    success, seconds = 0.0, 0.0
    with team(run) as pupils, Log(out) as log, Progress(total) as progress:
        study = Study(
            run, learner(run, source / WARMUP, demos, pupils), CURRICULA[run.curriculum](names, run.seed), demos
        )
        write_text(out / SETTINGS, json.dumps(scalars(run), indent=2) + "\n")
        for update in stored(source):
            study.run = replace(run, steps=update.steps)
            facts = study.learn(update.groups)
            success, seconds = facts["success"], seconds + facts["seconds/learn"]
            log.write(update.step, facts)
            progress.update(
                success=success,
                reward=facts["reward"],
                entropy=facts["entropy"],
                tokens_per_second=facts["tokens_per_second/learn"],
            )
        keep_agent(out, study.learner, words, source / WARMUP)
    write(out, habits(str(source / WARMUP)))
    return Trained(str(out), 0.0, seconds, success)
