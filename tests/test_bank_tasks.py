"""What the worlds say of a table's success is exact."""

import numpy as np
import pytest

from turngym.envs import UsageError
from turngym.trainers.bank import Bank, Corridor, Player, Tabular, Wordy
from turngym.trainers.bank.policy import log_softmax
from turngym.trainers.bank.tasks import known
from turngym.trainers.bank.trial import WINDY

SURE = [Bank(), Wordy(), Corridor(), Corridor(length=1, doors=3, turns=5)]
WORLDS = [*SURE, WINDY, Corridor(length=1, doors=3, turns=5, wind=0.6)]


def of(worlds):
    return pytest.mark.parametrize("world", worlds, ids=lambda w: f"{w.name}-{w.length}-{w.turns}")


def probabilities(logits):
    return np.exp(log_softmax(logits))


@pytest.mark.parametrize("world", [Bank(), Wordy(), Bank(odds=(0.3,), length=1, symbols=2)], ids=lambda w: w.name)
def test_the_difficulty_is_what_is_said(world) -> None:
    np.testing.assert_allclose(world.success(probabilities(world.logits())), world.odds, rtol=1e-12)


def test_difficulties_spread_from_hopeless_to_easy() -> None:
    odds = known(16)
    assert odds[0] == pytest.approx(0.02) and odds[-1] == pytest.approx(0.95)
    assert np.all(np.diff(odds) > 0)


@of(WORLDS)
def test_success_is_what_playing_gives(world) -> None:
    """Within five standard errors of 2,000 episodes a task, for a table that is off the start."""
    logits = world.logits() + 0.7 * np.random.default_rng(5).normal(size=world.logits().shape)
    exact = world.success(probabilities(logits))
    tasks = len(world.starts)
    played = Player(world, 2).play(logits, 0, 0, groups=tasks, size=2_000)
    found = np.array([t.reward for t in played]).reshape(tasks, -1).mean(1)
    assert np.all(np.abs(found - exact) < 5 * np.sqrt(exact * (1 - exact) / 2_000) + 1e-3)


@of(SURE)
def test_the_gold_actions_succeed(world) -> None:
    tasks = len(world.starts)
    shown = Player(world, 0).demonstrations(np.arange(2 * tasks), member=7)
    assert [t.reward for t in shown] == [1.0] * 2 * tasks
    assert {(t.source, t.member, t.outcome) for t in shown} == {("demonstration", 7, "terminated")}
    certain = np.zeros(world.logits().shape)
    np.put_along_axis(certain, world.gold[..., None], 1.0, -1)
    np.testing.assert_allclose(world.success(certain), 1.0)


def test_a_ramble_ends_with_the_first_answer() -> None:
    world = Wordy(length=4, odds=(0.3,), symbols=3)
    tokens = np.array([[0, 0, 2, 1], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]])
    assert world.written(tokens).tolist() == [3, 1, 4, 4]
    right = world.gold[0, 0]
    paid = world.step(np.zeros(4, dtype=np.int64), tokens, np.zeros(4)).reward
    assert paid.tolist() == [float(right == 2), float(right == 1), 0.0, float(right == 2)]


def test_the_length_of_a_wrong_answer_is_what_playing_gives() -> None:
    world = Wordy()
    played = Player(world, 4).play(world.logits(), 0, 0, groups=16, size=4_000)
    for task, exact in enumerate(world.wrong(probabilities(world.logits()))):
        mine = [len(t.turns[0].action.calls[0].sample.tokens) for t in played if t.seed == task and not t.reward]
        assert abs(np.mean(mine) - exact) < 5 * np.std(mine) / np.sqrt(len(mine))


def test_doors_lead_on_and_side_rooms_back() -> None:
    world = Corridor(tasks=2, doors=3, turns=9)
    right, wrong = world.gold, (world.gold + 1) % world.symbols
    states = np.arange(12)
    on, off = (world.step(states, tokens, np.zeros(12)) for tokens in (right, wrong))
    assert on.state.tolist() == [1, 2, 2, 0, 1, 2, 7, 8, 8, 6, 7, 8]
    assert off.state.tolist() == [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]
    assert on.over.nonzero()[0].tolist() == on.reward.nonzero()[0].tolist() == [2, 8]
    assert not off.reward.any()


def test_wind_leads_to_any_door_of_the_task_unless_the_turn_ends_it() -> None:
    world = Corridor(tasks=2, doors=3, turns=9, wind=0.3)
    states = np.arange(12).repeat(100)
    chance = np.tile(np.arange(100) / 100, 12)
    after = world.step(states, world.gold[states], chance)
    calm = Corridor(tasks=2, doors=3, turns=9).step(states, world.gold[states], chance)
    np.testing.assert_array_equal(after.over, calm.over)
    still = calm.over | (chance >= 0.3)
    np.testing.assert_array_equal(after.state[still], calm.state[still])
    for state in range(12):
        blown = after.state[(states == state) & ~still]
        assert np.unique(blown, return_counts=True)[1].tolist() == ([] if state % 6 == 2 else [10, 10, 10])
        assert set(blown // 6) <= {state // 6} and not set(blown % 6) - {0, 1, 2}


def test_members_of_a_group_meet_in_states_and_are_paid_at_the_end_alone() -> None:
    world = Corridor()
    played = Player(world, 0).play(world.logits(), 0, 0, groups=4, size=8)
    for group in range(4):
        seen = [turn.observation for t in played if t.group == group for turn in t.turns]
        assert len(set(seen)) <= 2 * world.doors < len(seen) / 4
    assert all(turn.reward == 0 for t in played for turn in t.turns[:-1])
    assert {len(t.turns) for t in played if not t.reward} == {world.turns}


def test_a_model_starts_at_the_same_success() -> None:
    for world in WORLDS:
        model = Tabular(world.logits().astype(np.float32))
        exact = world.success(probabilities(world.logits()))
        np.testing.assert_allclose(world.success(probabilities(model.table())), exact, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bank(odds=(0.5, 1.0)),
        lambda: Bank(odds=()),
        lambda: Bank(symbols=1),
        lambda: Wordy(odds=(0.99,)),
        lambda: Wordy(idle=1.0),
        lambda: Wordy(symbols=2),
        lambda: Corridor(doors=9, turns=8),
        lambda: Corridor(odds=1.0),
        lambda: Corridor(wind=1.0),
        lambda: Corridor(wind=-0.1),
    ],
)
def test_a_world_that_cannot_be_is_an_error(make) -> None:
    with pytest.raises(UsageError):
        make()
