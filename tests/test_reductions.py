"""Each reduction's weights equal the mean it is named for."""

import pytest
import torch

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.envs import UsageError
from turngym.trainers.batch import collate
from turngym.trainers.reductions import FixedLength, sequence_mean, token_mean, turn_mean
from turngym.trainers.rollout import Trajectory


def play(member, *lengths, split=False, outcome="terminated", source="policy"):
    """One turn a length; ``split`` gives each its own row."""
    turns, past = [], ()
    for n in lengths:
        prompt, tokens = (*past, 1), (2,) * n
        turns.append(Turn((), Action("", (Call("p", Request(prompt), Sample(tokens, (-1.0,) * n, (0,) * n, "stop")),))))
        past = () if split else (*prompt, *tokens)
    return Trajectory(str(member), "t", 0, 0, member, tuple(turns), (), outcome, source=source)


def mean(values):
    return sum(values) / len(values)


# value of a token: ten times its trajectory plus its turn, so that every mean differs
LENGTHS = ((1, 4), (2,), (3, 1, 5))
BY_HAND = {
    token_mean: mean([10.0 * i + j for i, t in enumerate(LENGTHS) for j, n in enumerate(t) for _ in range(n)]),
    sequence_mean: mean(
        [mean([10.0 * i + j for j, n in enumerate(t) for _ in range(n)]) for i, t in enumerate(LENGTHS)]
    ),
    turn_mean: mean([mean([10.0 * i + j for j, n in enumerate(t)]) for i, t in enumerate(LENGTHS)]),
    FixedLength(7): mean([sum((10.0 * i + j) * n for j, n in enumerate(t)) / 7 for i, t in enumerate(LENGTHS)]),
}


@pytest.mark.parametrize("reduction", BY_HAND)
@pytest.mark.parametrize("split", [False, True])
def test_weights_give_the_mean_by_hand(reduction, split) -> None:
    played = [play(i, *t, split=split) for i, t in enumerate(LENGTHS)]
    others = [play(8, 3, outcome="env_error"), play(9, 2, 2, source="demonstration")]
    batch = collate([*played, *others]).to(dtype=torch.float64)
    weight = reduction(batch, batch.counted(("policy",)))
    value = 10.0 * batch.owner[:, None] + batch.turn
    assert float((weight * value).sum()) == pytest.approx(BY_HAND[reduction], rel=1e-12)
    assert not weight[~batch.loss_mask].any(), "only written tokens weigh"
    assert not weight[batch.owner >= len(played)].any(), "failures and other sources weigh nothing"


@pytest.mark.parametrize("reduction", [sequence_mean, turn_mean, FixedLength(4)])
def test_a_trajectory_that_wrote_nothing_stays_in_the_denominator(reduction) -> None:
    with_, without = collate([play(0, 2), play(1, 0)]), collate([play(0, 2)])
    half = reduction(with_, with_.counted(("policy",))).sum()
    torch.testing.assert_close(half * 2, reduction(without, without.counted(("policy",))).sum())


@pytest.mark.parametrize("reduction", BY_HAND)
def test_nothing_counted_gives_zeros_not_nan(reduction) -> None:
    batch = collate([play(0, 2, outcome="timeout")])
    assert (reduction(batch, batch.counted(("policy",))) == 0).all()
    empty = collate([play(0, 0)])
    assert reduction(empty, empty.counted(("policy",))).shape == (0, 0)


def test_a_fixed_length_is_positive() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        FixedLength(0)
