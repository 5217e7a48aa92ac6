"""Trajectories become rows, rows become tensors."""

from dataclasses import replace
from typing import get_type_hints

import pytest
import torch

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.envs import Image, UsageError
from turngym.trainers.batch import AttentionMask, Batch, LossMask, collate
from turngym.trainers.rollout import Trajectory
from turngym.trainers.rows import UNKNOWN, rows


def call(prompt, tokens, policy="actor", **request):
    sample = Sample(tuple(tokens), (-0.5,) * len(tokens), (3,) * len(tokens), "stop")
    return Call(policy, Request(tuple(prompt), **request), sample)


def play(*calls, reward=1.0, group=0, member=0, source="policy", outcome="terminated"):
    turns = tuple(Turn((), Action("", (c,)), reward / len(calls)) for c in calls)
    return Trajectory(f"{group}.{member}", "task", 0, group, member, turns, (), outcome, source=source)


def test_a_prompt_that_extends_the_exact_ids_stays_in_its_row() -> None:
    found = rows(play(call([1, 2], [3, 4]), call([1, 2, 3, 4, 5], [6])))
    assert [r.ids for r in found] == [[1, 2, 3, 4, 5, 6]]
    assert [r.written for r in found] == [[False, False, True, True, False, True]]
    assert [r.turn for r in found] == [[0, 0, 0, 0, 1, 1]]
    assert [r.behaviour for r in found] == [[0, 0, -0.5, -0.5, 0, -0.5]]
    assert [r.versions for r in found] == [[UNKNOWN, UNKNOWN, 3, 3, UNKNOWN, 3]]


@pytest.mark.parametrize("second", [[1, 2, 3, 9, 5], [1, 2, 3], [7], [2, 3, 4]])
def test_any_other_prompt_opens_a_row_that_holds_exactly_what_was_read(second) -> None:
    found = rows(play(call([1, 2], [3, 4]), call(second, [6])))
    assert [r.ids for r in found] == [[1, 2, 3, 4], [*second, 6]]
    assert found[1].turn == [1] * (len(second) + 1)


def test_a_change_of_temperature_opens_a_row() -> None:
    found = rows(play(call([1], [2], temperature=0.5), call([1, 2], [3], temperature=0.7)))
    assert [(r.temperature, r.ids) for r in found] == [(0.5, [1, 2]), (0.7, [1, 2, 3])]


def test_a_call_that_wrote_nothing_leaves_no_row() -> None:
    assert rows(play(call([1], []))) == []
    assert [r.ids for r in rows(play(call([1], [2]), call([1, 2, 3], []), call([1, 2, 3, 4], [5])))] == [
        [1, 2, 3, 4, 5]
    ]


def test_collate_pads_on_the_right_and_sorts_by_group_and_member() -> None:
    batch = collate(
        [
            play(call([9], [8]), group=2, reward=2.0),
            play(call([1], [2, 3]), call([5], [6]), group=1, member=1, reward=1.0),
            play(call([4], [4]), group=1, member=0, reward=0.0, outcome="timeout"),
        ]
    )
    assert batch.ids.tolist() == [[4, 4, 0], [1, 2, 3], [5, 6, 0], [9, 8, 0]]
    assert batch.loss_mask.int().tolist() == [[0, 1, 0], [0, 1, 1], [0, 1, 0], [0, 1, 0]]
    assert batch.attention_mask.int().tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 0], [1, 1, 0]]
    assert batch.lengths.tolist() == [2, 3, 2, 2]
    assert batch.owner.tolist() == [0, 1, 1, 2]
    assert batch.reward.tolist() == [0.0, 1.0, 2.0]
    assert batch.group.tolist() == [1, 1, 2]
    assert batch.scored.tolist() == [False, True, True]
    assert batch.counted(("policy",)).tolist() == [False, True, True]
    assert batch.written(("policy",)).sum(1).tolist() == [0, 2, 1, 1]


def test_a_trajectory_without_rows_still_counts() -> None:
    batch = collate([play(call([1], [])), play(call([1], [2]), member=1)])
    assert len(batch.ids) == 1 and len(batch.reward) == 2 and batch.owner.tolist() == [1]
    assert collate([play(call([1], []))]).ids.shape == (0, 0)


def test_take_cuts_to_the_longest_row_and_select_renumbers_owners() -> None:
    batch = collate([play(call([1], [2, 3]), call([5], [6]), member=0), play(call([7], [8]), member=1, reward=5.0)])
    assert batch.take(torch.tensor([2, 1])).ids.tolist() == [[7, 8], [5, 6]]
    assert batch.take(torch.tensor([2, 1])).owner.tolist() == [1, 0]
    last = batch.select(torch.tensor([False, True]))
    assert (last.ids.tolist(), last.owner.tolist(), last.reward.tolist()) == ([[7, 8]], [0], [5.0])
    assert last.source == ("policy",)


def test_to_changes_real_numbers_alone() -> None:
    batch = collate([play(call([1], [2]))]).to(dtype=torch.float64)
    assert batch.behaviour.dtype == batch.reward.dtype == batch.temperature.dtype == torch.float64
    assert batch.ids.dtype == torch.long and batch.loss_mask.dtype == torch.bool


def test_the_two_masks_are_two_types() -> None:
    hints = get_type_hints(Batch)
    assert hints["loss_mask"] is LossMask and hints["attention_mask"] is AttentionMask
    assert LossMask is not AttentionMask


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"top_k": 5}, "top_k=5"),
        ({"top_p": 0.9}, "top_p=0.9"),
        ({"temperature": 0.0}, "temperature 0"),
        ({"images": (Image(b""),)}, "images"),
    ],
)
def test_samples_of_another_distribution_are_refused(request_, words) -> None:
    with pytest.raises(UsageError, match=words):
        collate([play(call([1], [2], **request_))])


def test_an_empty_prompt_and_missing_log_probs_are_refused() -> None:
    with pytest.raises(UsageError, match="empty prompt"):
        collate([play(call([], [2]))])
    silent = call([1], [2])
    silent = replace(silent, sample=replace(silent.sample, logps=()))
    with pytest.raises(UsageError, match="1 tokens, 0 log-probs"):
        collate([play(silent)])
    with pytest.raises(UsageError, match="no trajectories"):
        collate([])


def test_demonstrations_need_no_log_probs_and_are_at_temperature_one() -> None:
    shown = Call("actor", Request((1,), temperature=0.0, top_k=1), Sample((2, 3), (), (), "stop"))
    batch = collate([play(shown, source="demonstration")])
    assert batch.temperature.tolist() == [1.0]
    assert batch.behaviour.tolist() == [[0.0, 0.0, 0.0]]
    assert batch.versions.tolist() == [[UNKNOWN] * 3]
    assert not batch.counted(("policy",)).any() and batch.counted(("demonstration",)).all()


def test_one_policy_is_trained_and_which_one_must_be_said() -> None:
    both = play(call([1], [2], policy="planner"), call([1, 2], [3], policy="actor"))
    with pytest.raises(UsageError, match="several policies"):
        collate([both])
    with pytest.raises(UsageError, match="no call of policy 'critic'"):
        collate([both], policy="critic")
    assert collate([both], policy="actor").loss_mask.int().tolist() == [[0, 0, 1]]
