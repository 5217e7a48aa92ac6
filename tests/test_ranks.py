"""Two processes learn what one does."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from small import play
from taught import GroupSquare, agent, apart, batch, near, plan, taught

from turngym.trainers.batch import collate
from turngym.trainers.credit import GroupNorm
from turngym.trainers.estimator import Recipe, Update
from turngym.trainers.output import pack
from turngym.trainers.recipes import ALGORITHMS, m_grpo
from turngym.trainers.references import Periodic
from turngym.trainers.regularizers import KL
from turngym.trainers.team import Team
from turngym.trainers.terms import Surrogate

NEAR = 5e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return agent(tmp_path_factory.mktemp("team"))


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    with Team(2) as team:
        yield team


def recipe(*terms: Any, **parts: Any) -> Recipe:
    return Recipe(terms=terms, credit=GroupNorm(), **parts)


RECIPES = {
    "a reference": m_grpo(kl=0.1),
    "group scope": recipe(Surrogate(), GroupSquare()),
    "pairs": ALGORITHMS["p3o"](),
    "trajectory scope": ALGORITHMS["gspo"](),
    "minibatches and target KL": replace(m_grpo(), update=Update(epochs=3, minibatches=2, target_kl=0.02)),
    "a former self": recipe(Surrogate(), KL(reference="old"), references=(Periodic("old", 2),)),
    "a probe": ALGORITHMS["poise"](),
    "a tracker": ALGORITHMS["spo"](),
}


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_learn_what_one_does(name: str, folder: str, team: Team) -> None:
    alone = plan(folder, RECIPES[name]).learner()
    rows, start = near(alone, batch()), dict(alone.tensors())
    weights, logs = taught(alone, rows)
    assert apart(weights, start) > 1e-3, "nothing was learned"
    others, measured = taught(team.learner(plan(folder, RECIPES[name])), rows)
    assert apart(weights, others) < NEAR
    for one, other in zip(logs, measured, strict=True):
        assert one == pytest.approx(other, rel=NEAR, abs=NEAR)


@pytest.mark.parametrize("groups", [1, 2])
def test_shares_may_be_of_unequal_size_or_none(groups: int, folder: str, team: Team) -> None:
    """One micro-batch: the second process passes in vain; three: the first takes two."""
    g = torch.Generator().manual_seed(3)
    played = collate([play(g, n, m) for n in range(groups) for m in (0, 1)])
    micro = 10**6 if groups == 1 else 60
    alone = plan(folder, micro=micro).learner()
    rows = near(alone, played)
    assert len(pack(rows, micro, alone.network.nodes)) % 2 == 1
    weights, logs = taught(alone, rows)
    others, measured = taught(team.learner(plan(folder, micro=micro)), rows)
    assert apart(weights, others) < NEAR and logs[-1] == pytest.approx(measured[-1], rel=NEAR, abs=NEAR)


@pytest.mark.parametrize("how", [{"lora": 4}, {"lora": 4, "checkpointing": True}], ids=str)
def test_two_processes_train_adapters_and_recompute(how: dict[str, Any], folder: str, team: Team) -> None:
    alone = plan(folder, **how).learner()
    rows = near(alone, batch())
    (weights, logs), (others, measured) = (taught(x, rows) for x in (alone, team.learner(plan(folder, **how))))
    assert apart(weights, others) < NEAR and logs[-1] == pytest.approx(measured[-1], rel=NEAR, abs=NEAR)


@pytest.mark.parametrize("lora", [0, 4])
def test_a_checkpoint_of_one_process_resumes_in_two_and_back(lora: int, folder: str, team: Team) -> None:
    alone, made = plan(folder, lora=lora).learner(), partial(plan, folder, lora=lora)
    rows = near(alone, batch())
    taught(alone, rows, 2)
    state = alone.state_dict()
    both = team.learner(made())
    both.load_state_dict(state)
    again = made().learner()
    again.load_state_dict(both.state_dict())
    assert apart(dict(again.tensors()), dict(alone.tensors())) == 0
    (weights, logs), (others, measured), (back, last) = (taught(x, rows, 2) for x in (alone, both, again))
    assert apart(weights, others) < NEAR and apart(weights, back) == 0 and logs == last
    assert logs[-1] == pytest.approx(measured[-1], rel=NEAR, abs=NEAR)
    assert both.version == 4


def test_weights_kept_are_restored_on_every_process(folder: str, team: Team) -> None:
    learner = team.learner(plan(folder))
    rows, kept = near(learner, batch()), learner.kept()
    before = learner.log_probs(rows)
    taught(learner, rows, 1)
    assert not torch.equal(learner.log_probs(rows), before)
    learner.restore(kept)
    assert torch.equal(learner.log_probs(rows), before)


def test_an_update_that_ends_early_ends_on_all(folder: str, team: Team) -> None:
    made = recipe(Surrogate(), update=Update(epochs=20, target_kl=1e-3))
    learner = team.learner(plan(folder, made))
    rows = replace(batch(), behaviour=learner.log_probs(batch()))
    assert 1 <= learner.update(rows)["steps"] < 20
    assert learner.log_probs(batch()).isfinite().all(), "the other process waits in a pass of its own"
