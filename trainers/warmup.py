"""The warm-up: cloning demonstrations to convergence, the epoch chosen on validation tasks."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from ..envs import Failure
from .batch import collate
from .demonstrations import number
from .learner import Learner
from .progress import Progress
from .rollout import Spec, Trajectory
from .workers import Workers

ROWS = 32  # an optimiser step
LOOKS = 5  # validations


def warm_up(
    learner: Learner,
    demonstrations: Sequence[Trajectory],
    templates: Sequence[str],
    workers: Workers,
    *,
    epochs: int,
    validation: int,
    seed: int,
) -> float:
    """Clone for ``epochs``, validate at about five of them, keep the best weights; returns its success.

    Validation plays ``validation`` tasks of the world "validation" greedily, the templates in turn; of equal epochs
    the later one is kept. The learner is left with the best weights and its optimiser as it was.
    """
    batch, rng = collate(demonstrations), np.random.default_rng((seed, 4))
    looks = {round(epochs * (i + 1) / LOOKS) for i in range(LOOKS)} - {0}
    specs = [
        Spec(i, templates[i % len(templates)], number(seed, 5, i), 1, "validation", True) for i in range(validation)
    ]
    best, kept = -1.0, learner.kept()
    with Progress(epochs, label="clone") as progress:
        for epoch in range(1, epochs + 1):
            log, tokens, began = {"entropy": 0.0}, 0.0, time.monotonic()
            order = torch.from_numpy(rng.permutation(len(batch.ids)))
            for start in range(0, len(order), ROWS):
                log = learner.update(batch.take(order[start : start + ROWS]))
                tokens += log["tokens"]
            seconds = time.monotonic() - began
            if epoch in looks:
                success = validate(learner, workers, specs)
                if success >= best:
                    best, kept = success, learner.kept()
            shown = max(best, 0.0)
            progress.update(success=shown, reward=shown, entropy=log["entropy"], tokens_per_second=tokens / seconds)
    learner.restore(kept)
    return max(best, 0.0)


def validate(learner: Learner, workers: Workers, specs: Sequence[Spec]) -> float:
    """Success of the present weights on ``specs``, over the episodes that could be scored.

    Raises Failure when most of them failed.
    """
    workers.publish(dict(learner.tensors()), learner.version)
    workers.submit(specs)
    played = [t for group in workers.collect(len(specs)) for t in group.trajectories if t.scored]
    if len(played) < len(specs) / 2:
        raise Failure(
            f"{len(specs) - len(played)} of {len(specs)} validation episodes failed; the first errors are above"
        )
    return sum(t.reward > 0 for t in played) / len(played)
