"""The design's rules that live in the trainer, as properties of random trajectories.

Rule 7, bounded staleness, is simulated in test_admission.py, rule 9 is in test_recipe.py, and rules 8 and 10
belong to the loop.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.envs import UsageError
from turngym.trainers.batch import collate
from turngym.trainers.credit import GroupMean, GroupNorm, LeaveOneOut
from turngym.trainers.estimator import Recipe, Update
from turngym.trainers.learner import Learner
from turngym.trainers.masks import Clip, geometric, sequence
from turngym.trainers.output import Output
from turngym.trainers.recipes import clone, m_grpo
from turngym.trainers.reductions import FixedLength, sequence_mean, token_mean
from turngym.trainers.rollout import Trajectory
from turngym.trainers.rows import rows
from turngym.trainers.terms import Clone, Entropy, Surrogate

FAILURES = ["env_error", "agent_error", "judge_error", "timeout"]
CREDITS = [GroupMean(), GroupNorm(), LeaveOneOut()]
RECIPES = {
    "m_grpo": m_grpo(),
    "token mean": Recipe(terms=(Surrogate(reduction=token_mean), Clone()), credit=GroupMean()),
    "fixed length": Recipe(terms=(Surrogate(reduction=FixedLength(9)), Clone()), credit=LeaveOneOut()),
    "gspo": Recipe(terms=(Surrogate(unit=geometric, reduction=sequence_mean), Clone()), credit=GroupNorm()),
    "product": Recipe(terms=(Surrogate(unit=sequence, mask=Clip(0.9, 9.0)), Clone()), credit=GroupNorm()),
    "bonus": Recipe(terms=(Surrogate(), Entropy(scale=0.1), Clone()), credit=GroupNorm()),
}
each_recipe = pytest.mark.parametrize("name", RECIPES)
quick = settings(max_examples=12, deadline=None)
ids = st.integers(0, 31)


@dataclass(frozen=True)
class Spoken:
    """One turn: what the world adds to the context, and what the policy writes, with log-probs."""

    fresh: tuple[int, ...]
    wrote: tuple[int, ...]
    logps: tuple[float, ...]


spoken = st.lists(st.tuples(ids, st.floats(-3.0, -0.1)), min_size=1, max_size=4).flatmap(
    lambda written: st.lists(ids, min_size=1, max_size=4).map(
        lambda fresh: Spoken(tuple(fresh), tuple(t for t, _ in written), tuple(p for _, p in written))
    )
)
episode = st.tuples(st.lists(spoken, min_size=1, max_size=4), st.integers(0, 3))
games = st.lists(st.lists(episode, min_size=2, max_size=4), min_size=1, max_size=3)  # groups of episodes


def play(turns, reward, group=0, member=0, cuts=frozenset(), source="policy", outcome="terminated", **request):
    """An episode in which every turn of ``cuts`` forgets its past, and so opens a row."""
    made, past = [], ()
    for index, turn in enumerate(turns):
        past = () if index in cuts else past
        prompt = (*past, *turn.fresh)
        sample = Sample(turn.wrote, turn.logps, (0,) * len(turn.wrote), "stop")
        made.append(
            Turn((), Action("", (Call("p", Request(prompt, **request), sample),)), reward * (index == len(turns) - 1))
        )
        past = (*prompt, *turn.wrote)
    return Trajectory(f"{group}.{member}", "t", 0, group, member, tuple(made), (), outcome, source=source)


def plays(game, cuts=frozenset()) -> list[Trajectory]:
    return [play(*e, group=g, member=m, cuts=cuts) for g, group in enumerate(game) for m, e in enumerate(group)]


SHOWN = play([Spoken((1, 2), (3, 4), (0.0, 0.0))], 0.0, group=90, source="demonstration")


class Bigram(nn.Module):
    """Logits by the last token: a policy that cannot see how its past is cut into rows."""

    def __init__(self) -> None:
        super().__init__()
        table = torch.randn(32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.table = nn.Embedding.from_pretrained(table, freeze=False)

    def get_decoder(self):
        return lambda input_ids, use_cache: SimpleNamespace(last_hidden_state=self.table(input_ids))

    def get_output_embeddings(self):
        return nn.Identity()

    def forward(self, input_ids, use_cache):
        return SimpleNamespace(logits=self.table(input_ids))


def learned(name: str, played: list[Trajectory], micro_tokens: int = 10**6) -> tuple[dict[str, float], Tensor]:
    """The log of one update and the gradient that it descended (unclipped)."""
    made = replace(RECIPES[name], update=Update())
    learner = Learner(Bigram(), made, lr=1e-3, micro_tokens=micro_tokens)
    log = learner.update(collate(played).to(dtype=torch.float64))
    gradient = learner.parameters[0].grad
    return log, torch.zeros(32, 32, dtype=torch.float64) if gradient is None else gradient


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


# Rule 1


@quick
@given(turns=st.lists(spoken, min_size=1, max_size=5), cuts=st.sets(st.integers(1, 4)), data=st.data())
def test_rule_1_every_token_is_trained_in_the_very_context_that_it_was_sampled_from(turns, cuts, data) -> None:
    played = play(turns, 1.0, cuts=cuts)
    if data.draw(st.booleans()):  # one id of one prompt's past is another one: as after a re-tokenisation
        index = data.draw(st.integers(0, len(turns) - 1))
        call = played.turns[index].action.calls[0]
        place = data.draw(st.integers(0, len(call.request.ids) - 1))
        changed = (*call.request.ids[:place], 32, *call.request.ids[place + 1 :])
        new = replace(call, request=replace(call.request, ids=changed))
        some = list(played.turns)
        some[index] = replace(some[index], action=Action("", (new,)))
        played = replace(played, turns=tuple(some))
    contexts = []
    for row in rows(played):
        start = 0
        for place, written in enumerate(row.written):
            start = (
                start
                if written and place and row.written[place - 1] and row.turn[place] == row.turn[place - 1]
                else place
            )
            if written:
                contexts.append((row.turn[place], tuple(row.ids[:start]), tuple(row.ids[start : place + 1])))
    asked = []
    for turn, t in enumerate(played.turns):
        (call,) = t.action.calls
        asked += [(turn, call.request.ids, call.sample.tokens[: i + 1]) for i in range(len(call.sample.tokens))]
    assert contexts == asked


# Rule 2


def test_rule_2_observation_tokens_carry_no_loss_but_are_read() -> None:
    torch_state = torch.get_rng_state()
    config = Qwen3Config(
        vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, initializer_range=0.3, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        learner = Learner(Qwen3ForCausalLM(config), clone(), lr=1e-3)
    first, second = ([Spoken((seen, 2), (3, 4), (0.0, 0.0))] for seen in (5, 6))
    a, b = (learner.log_probs(collate([play(turns, 0.0)])) for turns in (first, second))
    assert (a[0, :2] == 0).all() and not torch.isclose(a[0, 2:], b[0, 2:]).any()
    assert torch.equal(torch_state, torch.get_rng_state()), "global random numbers are nobody's to draw"


# Rule 3


@each_recipe
@quick
@given(game=games, lost=episode, outcome=st.sampled_from(FAILURES), cuts=st.sets(st.integers(1, 3)))
def test_rule_3_a_failure_leaves_statistics_and_loss(name, game, lost, outcome, cuts) -> None:
    clean = [*plays(game), SHOWN]
    failed = play(*lost, group=0, member=99, cuts=cuts, outcome=outcome)
    (log, gradient), (log_with, gradient_with) = learned(name, clean), learned(name, [*clean, failed])
    near(gradient_with, gradient)
    assert log_with == pytest.approx(log, rel=1e-9, abs=1e-12)


def test_rule_3_a_failure_is_not_a_zero_and_a_limit_is() -> None:
    good, bad = ([Spoken((1,), (2,), (-1.0,))], 1), ([Spoken((1,), (3,), (-1.0,))], 0)
    _, alone = learned("m_grpo", [play(*good, member=0), play(*good, member=1)])
    _, failed = learned(
        "m_grpo", [play(*good, member=0), play(*good, member=1), play(*bad, member=2, outcome="timeout")]
    )
    _, limit = learned(
        "m_grpo", [play(*good, member=0), play(*good, member=1), play(*bad, member=2, outcome="truncated")]
    )
    assert (alone == 0).all() and (failed == 0).all() and limit.abs().max() > 1e-3


# Rule 4


@each_recipe
@quick
@given(game=games, more=st.lists(ids, min_size=1, max_size=5), where=st.integers(0, 3))
def test_rule_4_inserted_observation_tokens_move_nothing(name, game, more, where) -> None:
    """The same log-probs of written tokens, with and without more to read in front of one turn."""

    def pushed(extra: bool) -> tuple[list[float], Tensor]:
        longer = [
            [([replace(s, fresh=(*more, *s.fresh)) if extra and i == where else s for i, s in enumerate(t)], r)
             for t, r in group]
            for group in game
        ]  # fmt: skip
        batch = collate([*plays(longer), SHOWN]).to(dtype=torch.float64)
        made = RECIPES[name]
        prepared = made.prepared(batch)
        leaf = (batch.behaviour - 0.1 * batch.loss_mask * (1 + batch.ids % 3)).requires_grad_()
        output = Output.given(prepared, leaf)
        output.__dict__["entropy"] = leaf * leaf
        (gradient,) = torch.autograd.grad(sum(made.losses(output, prepared).values()), leaf)
        assert not gradient[~batch.loss_mask].any() and not prepared.advantage[~batch.loss_mask].any()
        return prepared.advantage[batch.loss_mask].tolist(), gradient[batch.loss_mask]

    (advantage, gradient), (advantage_more, gradient_more) = pushed(False), pushed(True)
    assert advantage == advantage_more
    near(gradient_more, gradient)


@each_recipe
@quick
@given(game=games, cuts=st.sets(st.integers(1, 3)))
def test_rule_4_the_gradient_at_observation_logits_is_exactly_zero(name, game, cuts) -> None:
    batch = collate([*plays(game, cuts), SHOWN]).to(dtype=torch.float64)
    made, g = RECIPES[name], torch.Generator().manual_seed(0)
    shape = (len(batch.ids), batch.ids.shape[1] - 1, 32)
    logits = torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_()
    network = SimpleNamespace(splits=True, hidden=lambda ids, forest: logits, head=nn.Identity(), root=None)
    prepared = made.prepared(batch)
    output = Output(network, prepared)
    leaves = torch.arange(shape[0] * shape[1]).view(shape[:2])  # one of its own for every token of every row
    output.__dict__["forest"] = SimpleNamespace(ids=batch.ids[:, :-1], place=leaves)
    sum(made.losses(output, prepared).values()).backward()
    silent = ~batch.loss_mask[:, 1:]
    assert (logits.grad[silent] == 0).all()
    demonstrated = batch.written(("demonstration",))[:, 1:]
    assert (logits.grad[demonstrated] != 0).any()


# Rule 5


@each_recipe
@quick
@given(game=games, cuts=st.sets(st.integers(1, 3), min_size=1))
def test_rule_5_splitting_trajectories_into_rows_changes_nothing(name, game, cuts) -> None:
    whole, split = [*plays(game), SHOWN], [*plays(game, cuts), SHOWN]
    (log, gradient), (log_split, gradient_split) = learned(name, whole), learned(name, split)
    near(gradient_split, gradient)
    for key in ("loss", "grad_norm", "entropy", "kl", "clip_fraction", "tokens"):
        assert log_split[key] == pytest.approx(log[key], rel=1e-9, abs=1e-11), key
    for credit in CREDITS:
        a, b = (collate(played) for played in (whole, split))
        assert credit(a, None)[a.loss_mask].tolist() == credit(b, None)[b.loss_mask].tolist()


@each_recipe
@quick
@given(game=games, cuts=st.sets(st.integers(1, 3)), micro_tokens=st.integers(1, 60))
def test_rule_5_micro_batches_add_exactly(name, game, cuts, micro_tokens) -> None:
    played = [*plays(game, cuts), SHOWN]
    (log, gradient), (log_small, gradient_small) = learned(name, played), learned(name, played, micro_tokens)
    torch.testing.assert_close(gradient_small, gradient, rtol=0, atol=1e-10)
    assert log_small == pytest.approx(log, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("credit", CREDITS)
@quick
@given(reward=st.floats(-1e6, 1e6), size=st.integers(1, 9))
def test_rule_5_equal_rewards_give_exactly_zero(credit, reward, size) -> None:
    turn = Spoken((1,), (2, 3), (-1.0, -1.0))
    batch = collate([play([turn], reward, member=m) for m in range(size)])
    assert (credit(batch, None) == 0).all()


# Rule 6


@quick
@given(temperature=st.floats(0.2, 3.0), turns=st.lists(spoken, min_size=1, max_size=3))
def test_rule_6_log_probs_are_those_of_the_temperature_sampled_at(temperature, turns) -> None:
    batch = collate([play(turns, 1.0, temperature=temperature)])
    model = Bigram()
    ours = Learner(model, clone(), lr=1e-3).log_probs(batch)[batch.loss_mask]
    before = batch.ids[:, :-1][batch.loss_mask[:, 1:]]
    theirs = (model.table.weight[before] / batch.temperature[0].double()).log_softmax(-1)
    near(ours, theirs.gather(-1, batch.ids[batch.loss_mask][:, None])[:, 0].detach())


@pytest.mark.parametrize("change", [{"top_k": 1}, {"top_p": 0.99}, {"temperature": 0.0}])
def test_rule_6_other_distributions_are_refused_for_training_but_may_demonstrate(change) -> None:
    played = play([Spoken((1,), (2,), (-1.0,))], 1.0, **change)
    with pytest.raises(UsageError):
        collate([played])
    assert collate([replace(played, source="demonstration")]).temperature.tolist() == [1.0]
