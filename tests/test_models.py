"""Agents' folders: written whole, read with one line for whatever is wrong."""

import json
from pathlib import Path

import pytest

from turngym.agents.tiny import BASE
from turngym.agents.tiny import model as shape
from turngym.agents.tiny import tokenizer as words
from turngym.envs import CheckpointError, UsageError
from turngym.trainers.models import folder, load, save


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
