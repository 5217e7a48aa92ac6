"""Agents' folders: written whole, read with one line for whatever is wrong."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_run import WORLD
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from turngym.agents.tiny import BASE
from turngym.agents.tiny import model as shape
from turngym.agents.tiny import tokenizer as words
from turngym.envs import AgentError, CheckpointError, UsageError
from turngym.trainers.habits import Habits, write
from turngym.trainers.models import folder, load, save
from turngym.trainers.recipes import webagent_r1
from turngym.trainers.run import train


def small() -> tuple[object, object]:
    tokenizer = words.build()
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    return shape.build(len(tokenizer), pad=pad, end=end, seed=0, layers=1, width=32, heads=1), tokenizer


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model, tokenizer = small()
    save(tmp_path / "agent", model, tokenizer)
    again, same = load(str(tmp_path / "agent"))
    weights = model.state_dict()  # type: ignore[attr-defined]
    assert all((weights[name] == value).all() for name, value in again.state_dict().items())
    assert same.encode("red chair") == tokenizer.encode("red chair")  # type: ignore[attr-defined]
    assert not list((tmp_path / "agent").glob(".writing-*"))


def test_saving_again_replaces_the_weights_and_leaves_what_else_is_there(tmp_path: Path) -> None:
    model, tokenizer = small()
    save(tmp_path, model, tokenizer)
    (tmp_path / "agent.json").write_text("{}")
    changed = {name: value + 1 for name, value in model.state_dict().items()}  # type: ignore[attr-defined]
    model.load_state_dict(changed)  # type: ignore[attr-defined]
    save(tmp_path, model, tokenizer)
    assert all((changed[name] == value).all() for name, value in load(str(tmp_path))[0].state_dict().items())
    assert (tmp_path / "agent.json").read_text() == "{}"


def test_the_embedded_policy_stands_for_no_name(tmp_path: Path) -> None:
    assert folder("") == str(BASE) and folder(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="is not a model folder or hub id: ") as error:
        load(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(UsageError, match="cannot write the agent"):
        save(tmp_path / "file" / "agent", *small())


SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 32, "num_attention_heads": 2}
KINDS = {"qwen3": (Qwen3Config, Qwen3ForCausalLM, True), "llama": (LlamaConfig, LlamaForCausalLM, False)}


def foreign(to: Path, kind: str) -> None:
    """A model as others make them: no token for padding, grouped heads, a generation config that cannot be saved."""
    configured, of, tied = KINDS[kind]
    tokenizer = words.build()
    end, tokenizer.pad_token = tokenizer.eos_token_id, None
    config = configured(
        **SIZES, vocab_size=len(tokenizer), num_key_value_heads=1, tie_word_embeddings=tied, eos_token_id=end,
        bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = of(config)
    save(to, model, tokenizer)
    write(to, Habits(max_tokens=3))
    (to / "generation_config.json").write_text(
        json.dumps({"do_sample": False, "temperature": 0.5, "eos_token_id": end})
    )


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_others_are_trained_saved_and_loaded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{kind}_world.py").write_text(WORLD.replace("-v0", f"-{kind}-v0"))
    monkeypatch.syspath_prepend(str(tmp_path))
    foreign(tmp_path / "model", kind)
    run = replace(
        webagent_r1(), env=f"{kind}_world:Even-{kind}-v0", model=str(tmp_path / "model"), out=str(tmp_path / "out")
    )
    train(replace(run, demonstrations=0, steps=2, groups=3, size=4, workers=1, threads=1))
    trained, tokenizer = load(run.out)
    start = load(run.model)[0].state_dict()
    assert any(not torch.equal(tensor, start[name]) for name, tensor in trained.state_dict().items())
    assert tokenizer.pad_token is None and tokenizer.chat_template
    tied = KINDS[kind][2]
    assert (trained.lm_head.weight is trained.model.embed_tokens.weight) == tied
    assert ("lm_head.weight" in load_file(Path(run.out) / "model.safetensors")) != tied
    assert sys.modules.pop(f"{kind}_world")


def test_a_model_without_a_chat_template_is_one_line(tmp_path: Path) -> None:
    model, tokenizer = small()
    tokenizer.chat_template = None  # type: ignore[attr-defined]
    save(tmp_path / "model", model, tokenizer)
    with pytest.raises(AgentError, match="no chat template"):
        train(replace(webagent_r1(), model=str(tmp_path / "model"), out=str(tmp_path / "out"), browser_every=0))
