"""Episodes of the bank: real trajectories, the same for the same seed, as stale as they are asked to be."""

import numpy as np
import pytest
import torch

from turngym.envs import UsageError
from turngym.trainers.bank import Bank, Corridor, Delayed, Player, Tabular, Wordy
from turngym.trainers.bank.policy import log_softmax
from turngym.trainers.bank.trial import learner_of, one_thread
from turngym.trainers.batch import collate
from turngym.trainers.learner import Learner
from turngym.trainers.recipes import ALGORITHMS, clone
from turngym.trainers.rows import rows

WORLDS = [Bank(), Wordy(), Corridor(), Corridor(wind=0.4, name="windy")]
each_world = pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.name)


def play(world, seed=0, update=0, **options):
    return Player(world, seed).play(world.logits(), 0, update, **{"groups": 4, "size": 3, **options})


@each_world
def test_the_same_seed_gives_the_same_trajectories(world) -> None:
    assert play(world) == play(world)
    assert play(world) != play(world, seed=1)
    assert [t.turns for t in play(world)] != [t.turns for t in play(world, update=1)]


def test_groups_are_unique_in_a_run_and_take_the_tasks_in_turn() -> None:
    world = Corridor()
    found = [t for update in range(3) for t in play(world, update=update, groups=3)]
    assert [t.group for t in found[::3]] == list(range(9))
    assert [t.task for t in found[::3]] == [f"corridor {g % 4}" for g in range(9)]
    assert {(t.group, t.seed) for t in found} == {(g, g % 4) for g in range(9)}
    assert len({t.id for t in found}) == len(found) == 27


@each_world
def test_a_greedy_member_has_the_likeliest_symbols_and_no_rows(world) -> None:
    found = play(world, greedy=True)
    assert [t for t in found if t.source == "policy"] == play(world)
    baseline = [t for t in found if t.source == "greedy"]
    assert [(t.group, t.member) for t in baseline] == [(g, 3) for g in range(4)]
    best = world.logits().argmax(-1)
    for t in baseline:
        assert rows(t) == []
        for turn in t.turns:
            (call,) = turn.action.calls
            state = int(turn.observation[0].text.split()[1])
            assert call.request.temperature == 0.0
            assert call.sample.tokens == tuple(best[state][: len(call.sample.tokens)].tolist())
    assert len(collate(found).ids) == len(collate(play(world)).ids)


@each_world
def test_log_probs_are_exact(world) -> None:
    logp = log_softmax(world.logits())
    symbols = logp.shape[-1]
    for t in play(world):
        for turn in t.turns:
            (call,) = turn.action.calls
            state = call.request.ids[0] - symbols
            assert call.sample.logps == tuple(logp[state, i, token] for i, token in enumerate(call.sample.tokens))


@pytest.mark.parametrize("lag", [0, 1, 5])
def test_updates_learn_from_the_version_of_so_many_updates_ago(lag) -> None:
    world = Bank(odds=(0.3, 0.6))
    model = Tabular(world.logits())
    learner = Learner(model, ALGORITHMS["reinforce"](), lr=0.1)
    delayed, player, past = Delayed(lag), Player(world, 0), []
    for update in range(9):
        past.append(model.table())
        delayed.push(learner.version, model.table())
        version, table = delayed.player
        assert version == max(0, update - lag)
        np.testing.assert_array_equal(table, past[version])
        played = player.play(table, version, update, groups=2, size=8)
        assert {v for t in played for v in t.turns[0].action.calls[0].sample.versions} == {version}
        assert learner.update(collate(played))["lag_max"] == update - version


def test_demonstrations_are_cloned() -> None:
    world = Bank()
    model = Tabular(world.logits())
    learner = Learner(model, clone(), lr=0.1)
    shown = collate(Player(world, 0).demonstrations(np.arange(16), member=0))
    for _ in range(30):
        learner.update(shown)
    assert world.success(np.exp(log_softmax(model.table()))).min() > 0.5


@pytest.mark.parametrize("name", ALGORITHMS)
@one_thread()
def test_every_algorithm_gets_better_on_policy(name) -> None:
    """From 0.4 to 0.5 and more in 20 updates of 32 episodes; ArCHer's critic has hardly begun after 5."""
    world, recipe = Bank(odds=(0.1, 0.3, 0.5, 0.7)), ALGORITHMS[name]()
    learner, player = learner_of(recipe, world), Player(world, 0)
    updates, goal = (5, 0.4) if name == "archer" else (20, 0.5)
    for update in range(updates):
        table = learner.model.table()
        played = player.play(table, update, update, groups=4, size=8, greedy=recipe.greedy)
        log = learner.update(collate(played))
        assert log["lag_max"] == 0 and abs(log["mismatch_kl"]) < 1e-6
    assert world.success(np.exp(log_softmax(learner.model.table()))).mean() > goal


def test_nothing_to_play_and_a_lag_that_cannot_be_are_errors() -> None:
    with pytest.raises(UsageError, match="at least one"):
        play(Bank(), groups=0)
    with pytest.raises(UsageError, match="lag"):
        Delayed(-1)


def test_torch_s_own_random_numbers_are_left_alone() -> None:
    before = torch.get_rng_state()
    play(Corridor())
    assert torch.equal(before, torch.get_rng_state())
