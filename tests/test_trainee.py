"""Layers computed again, bfloat16 and adapters: what is trained, what is published, what is kept."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from small import gpt
from taught import agent, apart, batch, near, plan, taught
from torch import nn
from transformers import OPTConfig, OPTForCausalLM

from turngym.agents import Request
from turngym.agents.samplers import TorchSampler
from turngym.envs import UsageError
from turngym.trainers import models
from turngym.trainers.batch import Batch
from turngym.trainers.learner import Learner
from turngym.trainers.output import Network
from turngym.trainers.recipes import m_grpo
from turngym.trainers.references import Periodic
from turngym.trainers.regularizers import KL
from turngym.trainers.team import Team
from turngym.trainers.trainee import Making, Trainee

CLOSE = 0.02  # nats a token, mean: bfloat16 has 8 bits, and the passes of learner and sampler are of other shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return agent(tmp_path_factory.mktemp("trainee"))


def saved(learner: Learner, rows: Batch) -> tuple[int, list[torch.Tensor]]:
    """Bytes that a pass keeps for its gradient, and the gradient."""
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    learner.optimizer.zero_grad()
    learner.network.ready()
    own = {p.untyped_storage().data_ptr() for p in learner.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        learner.network.model(input_ids=rows.ids, use_cache=False).logits.logsumexp(-1).sum().backward()
    return sum(size for at, size in kept.items() if at not in own), [p.grad.clone() for p in learner.parameters]


def test_layers_computed_again_keep_less_and_change_no_bit(folder: str) -> None:
    plain, again = plan(folder).learner(), plan(folder, checkpointing=True).learner()
    (much, whole), (little, same) = saved(plain, batch()), saved(again, batch())
    assert all(map(torch.equal, whole, same))
    assert little < 0.5 * much
    rows = near(plain, batch())
    (weights, logs), (others, measured) = taught(plain, rows), taught(again, rows)
    assert apart(weights, others) == 0 and logs == measured


def test_only_the_layers_themselves_are_in_train_mode(folder: str) -> None:
    learner = plan(folder, checkpointing=True).learner()
    learner.update(near(learner, batch()))
    training = {type(m).__name__ for m in learner.model.modules() if m.training}
    assert training == {"Qwen3DecoderLayer"}


def test_layers_that_drop_out_by_themselves_are_not_computed_again() -> None:
    sizes = {"vocab_size": 32, "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = OPTForCausalLM(OPTConfig(**sizes, word_embed_proj_dim=16, dropout=0.5))
    with pytest.raises(UsageError, match="drop out"):
        Trainee(model, Making(checkpointing=True), nn.Module)


def test_bfloat16_keeps_weights_in_float32_and_computes_as_a_sampler_does(folder: str) -> None:
    with Team(grouped=True) as team:
        learner = team.learner(plan(folder, dtype="bfloat16"))
        assert {p.dtype for p in learner.parameters} == {torch.float32}
        rows, start = near(learner, batch()), dict(learner.tensors())
        weights, logs = taught(learner, rows)
        mine = learner.log_probs(rows)
    assert apart(weights, start) > 1e-3 and mine.dtype == torch.float32
    model, _ = models.load(folder, dtype="bfloat16")
    model.load_state_dict(weights)
    with torch.no_grad():
        logits = model(input_ids=rows.ids).logits.float() / rows.temperature[:, None, None]
    theirs = logits[:, :-1].log_softmax(-1).gather(-1, rows.ids[:, 1:, None])[..., 0]
    assert float((mine[:, 1:] - theirs)[rows.loss_mask[:, 1:]].abs().mean()) < CLOSE


def test_two_processes_in_bfloat16_are_near_one(folder: str) -> None:
    logs = []
    for count in (1, 2):
        with Team(count, grouped=True) as team:
            learner = team.learner(plan(folder, dtype="bfloat16"))
            logs.append(taught(learner, near(learner, batch()), 2)[1])
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=0.01, abs=1e-4)


def sampled(weights: dict[str, torch.Tensor], folder: str, dtype: str = "float32") -> tuple[Request, Any]:
    sampler = TorchSampler(models.load(folder, dtype=dtype)[0])
    sampler.publish(weights.items(), 1)
    request = Request((3, 5, 7, 9), max_tokens=12, temperature=1.0, seed=4)
    (sample,) = sampler.decode([request])
    sampler.close()
    return request, sample


def scored(network: Network, request: Request, sample: Any) -> torch.Tensor:
    """Log-probs of what was sampled."""
    ids = torch.tensor([[*request.ids, *sample.tokens]])
    with torch.no_grad():
        logits = network.logits(ids)[0, len(request.ids) - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, torch.tensor(sample.tokens)[:, None])[:, 0]


def test_adapters_alone_are_trained_and_published_as_plain_weights(folder: str) -> None:
    learner = plan(folder, lora=4).learner()
    start, rows = dict(learner.tensors()), near(learner, batch())
    plain = models.load(folder)[0].state_dict()
    assert all(torch.equal(start[name], tensor) for name, tensor in plain.items()) and set(start) == set(plain)
    weights, _ = taught(learner, rows)
    moved = {name for name, tensor in weights.items() if not torch.equal(tensor, start[name])}
    assert moved == {name for name in plain if "proj" in name}
    request, sample = sampled(weights, folder)
    torch.testing.assert_close(
        scored(learner.network, request, sample), torch.tensor(sample.logps), rtol=0, atol=1e-5, check_dtype=False
    )


def test_a_sampler_in_bfloat16_agrees_with_the_learner(folder: str) -> None:
    with Team(grouped=True) as team:
        learner = team.learner(plan(folder, dtype="bfloat16"))
        request, sample = sampled(dict(learner.tensors()), folder, "bfloat16")
        ids = torch.tensor([[*request.ids, *sample.tokens]])
        assert isinstance(learner.network, Trainee) and learner.network.root is not None
        with torch.no_grad():
            states = learner.network.hidden(ids)
            _, raw = learner.network.root(ids, {}, torch.arange(len(request.ids) - 1, ids.shape[1] - 1))
        assert states.dtype == torch.bfloat16
    logp = raw.float().log_softmax(-1).gather(-1, torch.tensor(sample.tokens)[:, None])[:, 0]
    assert float((logp - torch.tensor(sample.logps)).abs().mean()) < CLOSE


def test_the_base_is_the_reference_start_without_a_copy(folder: str) -> None:
    learner = plan(folder, m_grpo(kl=0.1), lora=4).learner()
    assert learner.references._networks["start"].model is learner.model
    rows = near(learner, batch())
    first = learner.update(rows)
    assert first["loss/kl"] == 0 < learner.update(rows)["loss/kl"]
    frozen = models.load(folder)[0]
    theirs = Learner(frozen, m_grpo(), lr=1e-3).log_probs(rows)
    ours = learner.references.log_probs("start", learner.network, rows, 10**6)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_former_self_of_a_model_with_adapters_is_a_plain_model(folder: str) -> None:
    made = plan(folder, lora=4)
    recipe = m_grpo(kl=0.1)
    old = type(recipe)(
        terms=tuple(t if t.name != "kl" else KL(reference="old") for t in recipe.terms),
        credit=recipe.credit,
        references=(Periodic("old", 2),),
    )
    learner = plan(folder, old, lora=4).learner()
    rows = near(made.learner(), batch())
    logs = [learner.update(rows)["loss/kl"] for _ in range(3)]
    assert logs[0] == pytest.approx(0, abs=1e-6) and logs[1] > 1e-6
    assert logs[2] == pytest.approx(0, abs=1e-6)  # renewed: merged weights are what the policy computes


def test_the_adapter_of_an_agent_fits_its_base(folder: str, tmp_path: Path) -> None:
    learner = plan(folder, lora=4).learner()
    rows = near(learner, batch())
    weights, _ = taught(learner, rows)
    assert isinstance(learner.network, Trainee) and learner.network.adapters is not None
    learner.network.adapters.files(tmp_path, learner.kept(), folder)
    whole = peft.PeftModel.from_pretrained(models.load(folder)[0], str(tmp_path)).merge_and_unload().state_dict()
    assert max(float((whole[name] - tensor).abs().max()) for name, tensor in weights.items()) < 1e-6


def test_what_another_model_kept_is_refused(folder: str, tmp_path: Path) -> None:
    state = plan(folder, lora=4).learner().state_dict()
    for other in (plan(folder, lora=2), plan(folder, checkpointing=True), plan(agent(tmp_path, layers=1), lora=4)):
        with pytest.raises(UsageError, match="not one of this learner's"):
            other.learner().load_state_dict(state)


def test_a_model_without_layers_of_a_kind_is_refused() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(8, 8)

        def get_decoder(self) -> Any:
            return lambda input_ids, use_cache: type("Out", (), {"last_hidden_state": self.table(input_ids)})

        def get_output_embeddings(self) -> Any:
            return nn.Identity()

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
            return type("Out", (), {"logits": self.table(input_ids)})

    with pytest.raises(UsageError, match="cannot compute its layers again"):
        Trainee(Flat(), Making(checkpointing=True), nn.Module)
    assert Network(gpt()).root is None
