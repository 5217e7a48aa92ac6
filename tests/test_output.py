"""What a forward pass gives equals the whole model's own, whatever is gathered, sorted or padded."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from turngym.agents import Action, Call, Request, Sample, Turn
from turngym.trainers.batch import Batch, collate
from turngym.trainers.learner import Learner
from turngym.trainers.output import Network, Output, pack
from turngym.trainers.recipes import clone, m_grpo
from turngym.trainers.rollout import Trajectory

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


def reference_log_probs(model: nn.Module, batch: Batch) -> Tensor:
    """The whole model, row by row without padding, with an explicit attention mask."""
    out = torch.zeros(batch.ids.shape, dtype=torch.float64)
    for b, length in enumerate(batch.lengths.tolist()):
        ids = batch.ids[b : b + 1, :length]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].double()
        logp = (logits / batch.temperature[b]).log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        out[b, 1:length] = torch.where(batch.loss_mask[b, 1:length], logp, 0.0)
    return out


def gemma() -> nn.Module:
    return seeded(lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, final_logit_softcapping=2.0)))


def gpt() -> nn.Module:
    sizes = {"vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1}
    return seeded(lambda: GPT2LMHeadModel(GPT2Config(**sizes, attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5)))


@pytest.mark.parametrize(
    ("build", "splits", "branches"), [(qwen, True, True), (gemma, False, False), (gpt, True, True)]
)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_are_the_model_s_own(build, splits, branches, temperature) -> None:
    model = build()
    learner = Learner(model, m_grpo(), lr=1e-3, micro_tokens=40)
    batch = collate(plays(temperature=temperature))
    assert learner.network.splits is splits, "a model that caps its logits runs whole"
    assert (learner.network.nodes > 0) is branches, "a window of attention would look past a tree's branch"
    model.train()  # whoever meddled: dropout stays off while learning
    ours = learner.log_probs(batch)
    with torch.no_grad():
        torch.testing.assert_close(ours, reference_log_probs(model, batch), rtol=1e-9, atol=1e-9)
    assert ours[batch.loss_mask].std() > 0.1


def test_a_model_that_drops_the_mask_gets_no_trees() -> None:
    model = gpt()
    whole = model.transformer.forward
    model.transformer.forward = lambda *ids, **given: whole(*ids, **given | {"attention_mask": None})
    assert Network(model).nodes == 0


def test_trees_ask_for_no_position_that_the_rows_lack() -> None:
    sizes = {"vocab_size": 32, "n_embd": 32, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1}
    model = seeded(lambda: GPT2LMHeadModel(GPT2Config(**sizes, n_positions=8, initializer_range=0.3)))
    batch = wide([9, 9, 9, 9, 6])
    batch.ids[:4, :5] = 3
    output = Output(Network(model), batch)
    assert output.forest.branches and output.forest.ids.shape[1] > 8
    assert output.logp.isfinite().all()


def test_padding_on_the_right_needs_no_attention_mask() -> None:
    model, batch = qwen(), collate(plays())
    with torch.no_grad():
        masked = model(input_ids=batch.ids, attention_mask=batch.attention_mask.long()).logits
        plain = model(input_ids=batch.ids).logits
    torch.testing.assert_close(masked[batch.attention_mask], plain[batch.attention_mask], rtol=0, atol=1e-12)


def wide(lengths: list[int]) -> Batch:
    """Demonstrations of random ids, one row each of the given length; the last two tokens are written."""
    g = torch.Generator().manual_seed(1)

    def one(i: int, length: int) -> Trajectory:
        ids = tuple(torch.randint(1, 32, (length,), generator=g).tolist())
        call = Call(
            "p",
            Request(ids[:-1] if length < 3 else ids[:-2]),
            Sample(ids[-1:] if length < 3 else ids[-2:], (), (), "stop"),
        )
        return Trajectory(
            str(i), "t", 0, i, 0, (Turn((), Action("", (call,))),), (), "terminated", source="demonstration"
        )

    return collate([one(i, length) for i, length in enumerate(lengths)])


def test_pack_fills_micro_batches_with_rows_of_like_length() -> None:
    batch = wide([5, 9, 2, 9, 30, 5])
    packed = pack(batch, 20)
    assert sorted(i for index in packed for i in index.tolist()) == list(range(6))
    assert [sorted(batch.lengths[index].tolist()) for index in packed] == [[30], [9, 9], [2, 5, 5]]
    assert pack(batch.take(torch.tensor([], dtype=torch.long)), 20) == []


def test_equal_rows_share_a_micro_batch_and_pass_once() -> None:
    batch = wide([9, 5, 9, 5, 9, 9])
    batch.ids[4], batch.ids[2], batch.ids[3] = batch.ids[0], batch.ids[0], batch.ids[1]
    packed = pack(batch, 20)
    assert [sorted(index.tolist()) for index in packed] in ([[0, 2, 4, 5], [1, 3]], [[0, 2, 4, 5], [3, 1]])
    model = qwen()
    output = Output(Network(model), batch.take(packed[0]))
    assert output.forest.ids.shape == (1, 16), "both rows are one tree, of which they share nothing"
    alone = [Output(Network(model), batch.take(index[None])).logp for index in packed[0]]
    torch.testing.assert_close(output.logp, torch.cat(alone), rtol=0, atol=1e-12)


def test_trees_change_neither_log_probs_nor_gradients() -> None:
    g = torch.Generator().manual_seed(0)
    twins = [t for n in range(3) for t in [play(g, n, 0), play(g, n, 1)] for _ in range(2)]
    batch = collate([replace(t, member=i) for i, t in enumerate(twins)])
    batch.ids[:, :3] = torch.tensor([3, 1, 2])  # whatever they went on with, they began alike
    found = {}
    for nodes in (0, 64):
        model = gpt()
        network = Network(model)
        network.nodes = nodes
        output = Output(network, batch)
        (output.logp.sum() + output.entropy.sum()).backward()
        found[nodes] = output.logp.detach(), [p.grad for p in model.parameters()]
        assert output.forest.branches is (nodes > 0)
    torch.testing.assert_close(found[64], found[0], rtol=1e-9, atol=1e-9)


def test_entropy_is_that_of_the_tempered_distribution() -> None:
    model, batch = qwen(), collate(plays(temperature=0.7))
    with torch.no_grad():
        entropy = Output(Network(model), batch).entropy
        logits = model(input_ids=batch.ids).logits[:, :-1] / 0.7
    whole = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(
        entropy[:, 1:][batch.loss_mask[:, 1:]], whole[batch.loss_mask[:, 1:]], rtol=1e-6, atol=1e-6
    )
    assert not entropy[~batch.loss_mask].any()


class Table(nn.Module):
    """A plain module with the interface: logits by the last token."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.zeros(32, 32, dtype=torch.float64), freeze=False)

    def get_decoder(self):
        return lambda input_ids, use_cache: SimpleNamespace(last_hidden_state=self.table(input_ids))

    def get_output_embeddings(self):
        return nn.Identity()

    def forward(self, input_ids, use_cache):
        return SimpleNamespace(logits=self.table(input_ids))


def test_any_module_with_the_interface_learns() -> None:
    g = torch.Generator().manual_seed(0)
    learner = Learner(Table(), clone(), lr=0.5)
    shown = collate([play(g, n, 0, "demonstration", tokens=(7, 8)) for n in range(4)])
    first = learner.update(shown)
    for _ in range(30):
        last = learner.update(shown)
    assert first["loss"] == pytest.approx(torch.tensor(32.0).log().item())
    assert last["loss"] < 0.5, "what is left is a prompt that ends in 7, itself a token with a successor"
    assert learner.version == 31
