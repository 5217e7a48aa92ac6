"""AR3PO's loss: a reused response shifts the baseline, and in mode I alone it has a gradient of its own."""

from dataclasses import replace

import pytest
import torch
from longhand import (
    LENGTHS,
    MASK,
    NORMED,
    OLD,
    PROX,
    SIZE,
    START,
    N,
    batch,
    by_sequence,
    clip,
    gradient,
    padded,
    published,
)

from turngym.envs import UsageError
from turngym.trainers.bank import Bank, Player
from turngym.trainers.bank.trial import learner_of, one_thread
from turngym.trainers.batch import collate
from turngym.trainers.credit import BetaNorm, GroupMean, GroupNorm, LeaveOneOut, Quantile
from turngym.trainers.recipes import RUNS, ar3po, dapo, grpo
from turngym.trainers.reuse import Reuse
from turngym.trainers.rollout import Spec, Trajectory
from turngym.trainers.rows import POLICY, REUSED
from turngym.trainers.settings import check
from turngym.trainers.terms import PROXIMAL

AGAIN = (3, 17)  # who is reused
OWN = torch.tensor([n not in AGAIN for n in range(N)])


def mixed(**changes):
    return batch(source=tuple(REUSED if n in AGAIN else POLICY for n in range(N)), **changes)


def own(x: torch.Tensor) -> torch.Tensor:
    """GRPO's mean over the policy's own responses."""
    return ((x * MASK).sum(1) / LENGTHS)[OWN].mean()


def k3(p: torch.Tensor) -> torch.Tensor:
    return (START - p).exp() - (START - p) - 1


def near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.abs().max() > 1e-5
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-14)


def test_in_mode_two_a_reused_response_has_no_gradient_at_all() -> None:
    found = gradient(ar3po(), mixed())
    assert not found[list(AGAIN)].any()
    near(found, published(lambda p: -own(clip((p - OLD).exp(), NORMED) - 0.04 * k3(p))))


def test_it_shifts_the_baseline_of_the_others() -> None:
    """Its return is in the mean and the std: a group of failures is pushed away from, and without it not at all."""
    lost = torch.where(OWN, 0.0, 1.0).double()
    found = gradient(ar3po(kl=0.0), mixed(reward=lost))
    shifted = -lost[: 2 * SIZE].view(-1, SIZE).mean(1)
    assert shifted[0] < 0 and shifted[1] == 0
    for n in range(N):
        beside = n // SIZE in {m // SIZE for m in AGAIN} and n not in AGAIN
        assert bool(found[n].any()) is beside
        assert not beside or (found[n][MASK[n]] >= 0).all(), "descent lowers its probability"
    assert not gradient(ar3po(kl=0.0), mixed(reward=torch.where(OWN, 0.0, 0.0).double())).any()


def test_in_mode_one_the_gradient_is_that_of_the_loss_with_new_log_probs() -> None:
    near(
        gradient(ar3po(reused=True, kl=0.0), mixed()),
        published(lambda p: -by_sequence(clip((p - PROX).exp(), NORMED))),
    )
    found = gradient(ar3po(reused=True), mixed())
    near(found, published(lambda p: -by_sequence(clip((p - PROX).exp(), NORMED)) + own(0.04 * k3(p))))
    assert all(found[n].any() for n in AGAIN)


def test_mode_one_does_not_read_who_wrote_the_tokens() -> None:
    recipe = ar3po(reused=True, kl=0.0)
    torch.testing.assert_close(
        gradient(recipe, mixed()), gradient(recipe, mixed(behaviour=padded(3 * OLD))), rtol=0, atol=0
    )


@pytest.mark.parametrize("changed", [ar3po(reused=True, kl=0.0, clip=0.25), ar3po(kl=0.0), grpo(kl=0.0)])
def test_bounds_and_modes_are_seen_by_the_tests(changed) -> None:
    loss = published(lambda p: -by_sequence(clip((p - PROX).exp(), NORMED)))
    assert not torch.allclose(gradient(changed, mixed()), loss, rtol=1e-9, atol=1e-14)


def test_without_reuse_both_modes_are_grpo() -> None:
    near(gradient(ar3po()), gradient(grpo()))
    fresh = batch(references={"start": padded(START), PROXIMAL: padded(OLD)})
    near(gradient(ar3po(reused=True), fresh), gradient(grpo(), fresh))


def test_advantages_are_those_of_the_whole_group() -> None:
    for recipe in (ar3po(), ar3po(reused=True)):
        torch.testing.assert_close(recipe.prepared(mixed()).advantage[:, 1:], NORMED * MASK, rtol=1e-9, atol=1e-14)


WORLD = Bank(odds=(0.1, 0.6))


def update() -> list[Trajectory]:
    """Two groups of the first task, all lost but for a reused success in each; one of the second with spread."""
    player, found = Player(WORLD, 0), list[Trajectory]()
    table = WORLD.logits()
    reuse, (won,) = Reuse(0), player.parts(table, 0, [Spec(0, "bank 0", 0, 60)])
    reuse.fill([won], 0)
    lost = replace(won, trajectories=tuple(t for t in won.trajectories if not t.reward)[:8])
    for number in (1, 3):
        mine = tuple(replace(t, group=number, member=m) for m, t in enumerate(lost.trajectories))
        (filled,) = reuse.fill([replace(lost, spec=Spec(number, "bank 0", 0, 8), trajectories=mine)], number)
        found += filled.trajectories
    (other,) = player.parts(table, 0, [Spec(2, "bank 1", 1, 8)])
    return [*found, *other.trajectories]


def rewritten(t: Trajectory, shift: int) -> Trajectory:
    """The same with other tokens, and log-probs of nobody."""
    (turn,) = t.turns
    (call,) = turn.action.calls
    tokens = tuple((token + shift) % WORLD.symbols for token in call.sample.tokens)
    sample = replace(call.sample, tokens=tokens, logps=(-9.0,) * len(tokens))
    return replace(t, turns=(replace(turn, action=replace(turn.action, calls=(replace(call, sample=sample),))),))


@one_thread()
def learned(played: list[Trajectory], recipe) -> torch.Tensor:
    learner = learner_of(recipe, WORLD)
    learner.update(collate(played))
    return learner.model.head.weight.detach().clone()


def changed(shift: int) -> list[Trajectory]:
    return [rewritten(t, shift) if t.source == REUSED else t for t in update()]


def test_what_a_reused_response_says_changes_no_weight_in_mode_two() -> None:
    recipe = ar3po(kl=0.0)
    assert torch.equal(learned(update(), recipe), learned(changed(2), recipe))
    alone = learned([t for t in update() if t.source != REUSED], recipe)
    assert not torch.equal(alone, learned(update(), recipe)), "but that it is there does"


def test_in_mode_one_its_tokens_count_and_its_old_log_probs_do_not() -> None:
    recipe = ar3po(reused=True, kl=0.0)
    assert torch.equal(learned(update(), recipe), learned(changed(0), recipe))
    assert not torch.equal(learned(update(), recipe), learned(changed(2), recipe))


def test_runs_are_whole() -> None:
    run = RUNS["ar3po"]()
    assert (run.planner, run.stages, run.seeds, run.reuse, run.recipe) == ("stages", 2, 50, 8, ar3po())
    whole = RUNS["dapo_whole"]()
    assert (whole.planner, whole.resample, whole.recipe) == ("resample", 10, dapo())
    for each in (run, whole):
        check(each)
    with pytest.raises(UsageError, match="earlier successes"):
        check(replace(run, recipe=ar3po(reused=True), reuse=0, seeds=0))
    check(replace(run, recipe=ar3po(reused=True)))


def test_a_reused_response_stays_in_the_minibatch_of_its_group() -> None:
    recipe = ar3po(reused=True, kl=0.0)
    credited = recipe.credited(collate(update()))
    one, two = ({*part.group[part.owner].tolist()} for part in learner_of(recipe, WORLD)._minibatches(credited, 0.0))
    assert one | two == {1, 2, 3} and not one & two


@pytest.mark.parametrize("credit", [GroupMean(), GroupNorm(), LeaveOneOut(), Quantile(0.9), BetaNorm()])
def test_a_reused_success_counts_like_an_episode_of_the_policy(credit) -> None:
    played = update()
    plain = collate([replace(t, source=POLICY) for t in played])
    rows = plain.counted((POLICY,))[plain.owner]
    assert torch.equal(credit(collate(played), None)[rows], credit(plain, None)[rows]) and credit.reuses
