"""A batch becomes optimiser steps, on any causal language model."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.envs import TurngymError, UsageError
from turngym.trainers.batch import Batch, collate
from turngym.trainers.credit import GroupMean, GroupNorm
from turngym.trainers.estimator import Recipe, Update
from turngym.trainers.learner import Learner
from turngym.trainers.masks import Truncate, geometric, keep
from turngym.trainers.recipes import clone, m_grpo
from turngym.trainers.reductions import token_mean
from turngym.trainers.rollout import Trajectory
from turngym.trainers.terms import PROXIMAL, Clone, Entropy, Surrogate, Term

SMALL = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.3,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip


def seeded(build, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().to(dtype)


def qwen(dtype=torch.float64, **changes) -> Qwen3ForCausalLM:
    return seeded(lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL | changes)), dtype)


def gpt() -> GPT2LMHeadModel:
    """All of it computes in float64; the norms of Qwen3 do not, so that other trees round its gradients otherwise."""
    sizes = {"vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1}
    return seeded(lambda: GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.3)))


def play(g, group, member, source="policy", temperature=1.0, version=0, tokens=None) -> Trajectory:
    """Three turns; odd members open a row a turn. Even members' reward is 1."""
    turns, past = [], ()
    for turn in range(3):
        prompt = (*past, *torch.randint(32, (2 + member,), generator=g).tolist())
        wrote = tuple(tokens or torch.randint(32, (1 + turn,), generator=g).tolist())
        sample = Sample(wrote, (-3.0,) * len(wrote), (version,) * len(wrote), "stop")
        reward = float(turn == 2 and member % 2 == 0)
        turns.append(Turn((), Action("", (Call("p", Request(prompt, temperature=temperature), sample),)), reward))
        past = () if member % 2 else (*prompt, *wrote)
    return Trajectory(f"{group}.{member}", "t", 0, group, member, tuple(turns), (), "terminated", source=source)


def plays(**changes) -> list[Trajectory]:
    g = torch.Generator().manual_seed(0)
    return [play(g, n, m, **changes) for n in range(3) for m in range(4)]


def on_policy(learner: Learner, batch: Batch) -> Batch:
    return replace(batch.to(dtype=torch.float64), behaviour=learner.log_probs(batch))


def weights(learner: Learner) -> list[Tensor]:
    return [p.detach().clone() for p in learner.parameters]


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="get_decoder"):
        Learner(nn.Linear(2, 2), clone(), lr=1e-3)


def reference_log_probs(model: nn.Module, batch: Batch) -> Tensor:
    """The whole model, row by row without padding, with an explicit attention mask."""
    out = torch.zeros(batch.ids.shape, dtype=torch.float64)
    for b, length in enumerate(batch.lengths.tolist()):
        ids = batch.ids[b : b + 1, :length]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].double()
        logp = (logits / batch.temperature[b]).log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        out[b, 1:length] = torch.where(batch.loss_mask[b, 1:length], logp, 0.0)
    return out


def test_the_head_runs_at_written_tokens_only() -> None:
    model, seen = qwen(), []
    model.lm_head.register_forward_hook(lambda m, args, out: seen.append(args[0].shape))
    learner = Learner(model, m_grpo(), lr=1e-3, micro_tokens=10**6)
    batch = on_policy(learner, collate(plays()))
    seen.clear()
    log = learner.update(batch)
    assert seen == [(int(batch.loss_mask.sum()), 32)]
    assert log["tokens"] == int(batch.loss_mask.sum()) and log["rows"] == len(batch.ids)


def recipe(*terms: Term, **parts) -> Recipe:
    return Recipe(terms=terms, credit=GroupNorm(), **parts)


@dataclass(frozen=True, kw_only=True)
class GroupSquare(Term):
    """A term of group scope: squared mean log-prob of each group."""

    name: str = "square"

    @property
    def scope(self):
        return "group"

    def __call__(self, output, batch):
        sums = output.logp.new_zeros(int(batch.group.max()) + 1)
        sums = sums.index_add(0, batch.group[batch.owner], (self.weight(batch) * output.logp).sum(1))
        return self.scale * (sums**2).sum()


@pytest.mark.parametrize(
    "made",
    [
        m_grpo(),
        recipe(Surrogate(), Entropy(scale=0.1), Clone()),
        recipe(Surrogate(unit=geometric), Clone()),
        recipe(Surrogate(), GroupSquare(reduction=token_mean), Clone()),
    ],
    ids=["m_grpo", "entropy", "trajectory scope", "group scope"],
)
def test_micro_batches_change_no_gradient(made) -> None:
    g = torch.Generator().manual_seed(5)
    played = collate([*plays(), play(g, 9, 1, "demonstration")])
    results = []
    for micro_tokens in (30, 10**6):
        learner = Learner(gpt(), made, lr=1e-3, micro_tokens=micro_tokens)
        near = on_policy(learner, played)
        near = replace(near, behaviour=near.behaviour - 0.1 * near.loss_mask * (near.ids % 3))
        log = learner.update(near)
        results.append((log, [p.grad for p in learner.parameters]))
    (log, small), (whole_log, whole) = results
    assert max(float(x.abs().max()) for x in whole) > 1e-4
    for a, b in zip(small, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert log == pytest.approx(whole_log, rel=1e-9, abs=1e-12)


def test_an_update_descends_the_published_gradient_and_skips_rows_without_credit() -> None:
    """Against the whole batch through the whole model, nothing dropped, sorted or gathered."""
    model, made = gpt(), m_grpo(grad_clip=1e9)
    learner = Learner(model, made, lr=1e-3, micro_tokens=50)
    batch = on_policy(learner, collate(plays()))
    batch = replace(batch, reward=torch.where(batch.group == 1, 1.0, batch.reward))
    log = learner.update(batch)
    ours = [p.grad.clone() for p in learner.parameters]
    fresh = gpt().eval()
    prepared = made.prepared(batch)
    logp = reference_log_probs(fresh, batch)
    a, w = prepared.advantage, prepared.weights["policy"]
    (-(w * a * (logp - batch.behaviour).exp())).sum().backward()
    for mine, theirs in zip(ours, fresh.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-8, atol=1e-10)
    kept = batch.group[batch.owner] != 1
    assert log["rows"] == int(kept.sum()) < len(batch.ids)
    assert log["kl"] == pytest.approx(0, abs=1e-12) and log["clip_fraction"] == 0.0


def test_the_entropy_reported_is_that_of_sampled_tokens() -> None:
    shown = play(torch.Generator().manual_seed(5), 9, 1, "demonstration")
    with_, without, only = ([*plays(), shown], plays(), [shown])
    logs = [Learner(qwen(), m_grpo(), lr=1e-3).update(collate(played)) for played in (with_, without, only)]
    assert logs[0]["entropy"] == pytest.approx(logs[1]["entropy"], rel=1e-12)
    assert logs[0]["tokens"] > logs[1]["tokens"] and logs[2]["entropy"] > 0


def test_a_batch_without_credit_takes_no_step() -> None:
    learner = Learner(qwen(), m_grpo(), lr=1e-3)
    before, batch = weights(learner), collate(plays())
    log = learner.update(replace(batch, reward=torch.ones_like(batch.reward)))
    assert all(map(torch.equal, before, weights(learner)))
    assert (log["steps"], log["tokens"], log["grad_norm"], learner.version) == (0.0, 0.0, 0.0, 1)


def test_epochs_and_minibatches_are_steps_on_whole_groups(monkeypatch) -> None:
    learner, seen = Learner(qwen(), m_grpo(epochs=2, minibatches=3), lr=1e-3), []
    step = learner._backward
    monkeypatch.setattr(learner, "_backward", lambda part, *more: (seen.append(part), step(part, *more)))
    log = learner.update(on_policy(learner, collate(plays())))
    assert [p.group.unique().tolist() for p in seen] == [[0], [1], [2]] * 2
    for part in seen:  # each step's loss is a mean over its own trajectories
        assert float(part.weights["policy"].sum()) == pytest.approx(1.0)
    assert log["steps"] == 6.0 and learner.version == 1
    assert 0 < log["kl"] and 0 < log["clip_fraction"] < 1


def test_a_target_kl_ends_the_update_before_the_step() -> None:
    update = Update(epochs=50, target_kl=1e-3)
    learner = Learner(qwen(), recipe(Surrogate(mask=keep), update=update), lr=1e-2)
    log = learner.update(on_policy(learner, collate(plays())))
    assert 1 <= log["steps"] < 50


def test_the_gradient_is_clipped_and_its_norm_reported_before() -> None:
    logs, norms = [], []
    for limit in (1e9, 0.01):
        learner = Learner(qwen(), m_grpo(grad_clip=limit), lr=1e-3)
        logs.append(learner.update(on_policy(learner, collate(plays()))))
        norms.append(float(torch.stack([p.grad.norm() for p in learner.parameters]).norm()))
    assert logs[0]["grad_norm"] == pytest.approx(logs[1]["grad_norm"]) == pytest.approx(norms[0])
    assert norms[1] == pytest.approx(0.01, rel=1e-3) and norms[0] > 0.1


def test_a_gradient_that_is_not_finite_raises_and_spares_the_weights() -> None:
    learner = Learner(qwen(), recipe(Surrogate(mask=keep)), lr=1e-3)
    batch, before = collate(plays()), weights(learner)
    with pytest.raises(TurngymError, match="not finite"):
        learner.update(replace(batch, behaviour=batch.behaviour - 1e4))
    assert all(map(torch.equal, before, weights(learner)))


def test_references_are_run_once_and_must_be_given() -> None:
    batch = collate(plays())
    with pytest.raises(UsageError, match="no model for reference 'start'"):
        Learner(qwen(), m_grpo(kl=0.1), lr=1e-3).update(batch)
    with pytest.raises(UsageError, match="refers to"):
        Learner(qwen(), m_grpo(), lr=1e-3, references={"start": qwen()})
    learner = Learner(qwen(), m_grpo(kl=0.1), lr=1e-2, references={"start": qwen()})
    batch = on_policy(learner, batch)
    first, later = learner.update(batch), learner.update(batch)
    assert first["loss/kl"] == pytest.approx(0, abs=1e-12) and later["loss/kl"] > 1e-5


def test_the_proximal_policy_is_that_at_the_start_of_the_update() -> None:
    made = recipe(Surrogate(correction=Truncate(2.0), mask=keep), update=Update(epochs=2))
    learner, seen = Learner(qwen(), made, lr=1e-2), []
    start = collate(plays())
    expected = learner.log_probs(start)
    original = learner._step
    learner._step = lambda part, tally: (seen.append(part), original(part, tally))[1]
    learner.update(start)
    assert len(seen) == 2
    for part in seen:
        torch.testing.assert_close(part.references[PROXIMAL], expected, rtol=0, atol=1e-12)


def test_resume_is_exact() -> None:
    batch, one = collate(plays()), Learner(qwen(), m_grpo(), lr=1e-2)
    one.update(batch)
    two = Learner(qwen(), m_grpo(), lr=1e-2)
    two.load_state_dict(one.state_dict())
    assert two.version == 1
    assert one.update(batch) == two.update(batch)
    assert all(map(torch.equal, weights(one), weights(two)))
    with pytest.raises(UsageError, match="not one of this learner's"):
        Learner(qwen(num_hidden_layers=1), m_grpo(), lr=1e-2).load_state_dict(one.state_dict())


def test_published_tensors_are_copies_that_rebuild_the_model() -> None:
    learner = Learner(qwen(), m_grpo(), lr=1e-2)
    published = dict(learner.tensors())
    batch = collate(plays())
    before = learner.log_probs(batch)
    learner.update(batch)
    other = qwen(initializer_range=0.1)
    other.load_state_dict(published)
    assert torch.equal(Learner(other, m_grpo(), lr=1e-2).log_probs(batch), before)
    assert not torch.equal(learner.log_probs(batch), before)


def test_lag_is_reported_by_token() -> None:
    learner = Learner(qwen(), m_grpo(), lr=1e-3)
    learner.version = 5
    g = torch.Generator().manual_seed(0)
    played = [play(g, 0, 0, version=5), play(g, 0, 1, version=2), play(g, 0, 2, version=5)]
    log = learner.update(collate(played))
    assert (log["lag_p50"], log["lag_max"]) == (0.0, 3.0)


def test_training_raises_what_pays() -> None:
    """One token of 32 pays; the policy learns to write it."""
    learner = Learner(
        qwen(torch.float32, num_hidden_layers=1), Recipe(terms=(Surrogate(),), credit=GroupMean()), lr=1e-2
    )
    g = torch.Generator().manual_seed(0)
    log = []
    for _ in range(25):
        with torch.no_grad():
            logp = learner.model(input_ids=torch.tensor([[1, 2]])).logits[0, -1].log_softmax(-1)
        wrote = torch.multinomial(logp.exp(), 32, replacement=True, generator=g).tolist()
        played = [
            Trajectory(
                str(m), "t", 0, 0, m,
                (Turn((), Action("", (Call("p", Request((1, 2)), Sample((t,), (float(logp[t]),), (0,), "stop")),)),
                      float(t % 8 == 3)),),
                (), "terminated",
            )
            for m, t in enumerate(wrote)
        ]  # fmt: skip
        log.append(sum(t.reward for t in played) / 32)
        assert abs(learner.update(collate(played))["kl"]) < 1e-6
    assert log[0] < 0.5 < 0.95 < log[-1]
