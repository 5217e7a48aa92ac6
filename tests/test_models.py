"""Agents' folders: written whole, read with one line for whatever is wrong."""

import json
from pathlib import Path

import pytest

from turngym.agents.tiny import model as shape
from turngym.agents.tiny import tokenizer as words
from turngym.envs import CheckpointError, UsageError
from turngym.trainers.models import AGENT_FILE, folder, habits, load, save


def small() -> tuple[object, object]:
    tokenizer = words.build()
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    return shape.build(len(tokenizer), pad=pad, end=end, seed=0, layers=1, width=32, heads=1), tokenizer


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model, tokenizer = small()
    save(tmp_path / "agent", model, tokenizer, {"memory": "full", "max_tokens": 5})
    again, same = load(str(tmp_path / "agent"))
    weights = model.state_dict()  # type: ignore[attr-defined]
    assert all((weights[name] == value).all() for name, value in again.state_dict().items())
    assert same.encode("red chair") == tokenizer.encode("red chair")  # type: ignore[attr-defined]
    assert habits(str(tmp_path / "agent")) == {"memory": "full", "max_tokens": 5}
    assert not list((tmp_path / "agent").glob(".writing-*"))


def test_the_embedded_policy_stands_for_no_name() -> None:
    assert habits("") == habits(folder("")) and habits("")["instructions"] is False


@pytest.mark.parametrize("text", ["[]", "{", '{"max_tokens": 0}', '{"max_tokens": "x"}', '{"memory": "elephant"}'])
def test_a_wrong_agent_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / AGENT_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=AGENT_FILE):
        habits(str(tmp_path))


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
        save(tmp_path / "file" / "agent", *small(), {})
