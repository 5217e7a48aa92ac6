"""A run's own episodes, learned from again without any world: the same weights, bit for bit."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from ..envs import CheckpointError
from .checkpoint import Shelf
from .curriculum import Spread
from .episodes import count, demonstrations, stored
from .files import write_text
from .habits import habits, write
from .log import Log
from .models import load, save
from .progress import Progress
from .run import SETTINGS, WARMUP, Trained, learner
from .settings import Run, check, scalars
from .study import Study


def replay(run: Run, source: Path | str) -> Trained:
    """Train ``run`` on the episodes stored in ``source``, from the weights after that run's warm-up, into ``run.out``.

    With the settings of that run, on the same machine and with as many threads, the weights are that run's; with
    another recipe or learning rate it is the same data learned from otherwise. Raises CheckpointError where episodes,
    checkpoints or the weights after the warm-up are missing.
    """
    check(run)
    source, out = Path(source), Path(run.out)
    if out.resolve() == source.resolve():
        raise CheckpointError(f"a replay needs a folder of its own: --out, other than {source}")
    torch.set_num_threads(run.threads)
    model, tokenizer = load(str(source / WARMUP), run.device)
    demos, total = demonstrations(source), count(source)
    names = [*Shelf(source).newest()["study"]["curriculum"]["success"]]
    study = Study(run, learner(replace(run, out=str(source)), model, demos), Spread(names, run.seed), demos)
    success, seconds = 0.0, 0.0
    with Log(out) as log, Progress(total) as progress:
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
    save(out, model, tokenizer)
    write(out, habits(str(source / WARMUP)))
    return Trained(str(out), 0.0, seconds, success)
