"""A checkpoint is whole or absent, and says in one line what is wrong with it."""

import errno
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from turngym.envs import CheckpointError, UsageError
from turngym.trainers import checkpoint, files


def only(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path) -> None:
    model, generator = torch.nn.Linear(2, 3), torch.Generator().manual_seed(4)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    path = tmp_path / "deep" / "run.ckpt"
    checkpoint.save(
        path,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        random=generator.get_state(),
        counts={"version": 3, "seen": [1, (2, None)], "big": 2**70},
        order=OrderedDict(a=1.5),
    )
    parts = checkpoint.load(path)
    assert torch.equal(parts["model"]["weight"], model.weight)
    assert torch.equal(parts["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert torch.equal(parts["random"], generator.get_state())
    assert parts["counts"] == {"version": 3, "seen": [1, (2, None)], "big": 2**70}
    assert parts["order"] == {"a": 1.5}
    assert only(path.parent) == ["run.ckpt"]


def one_line(path: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        checkpoint.load(path)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value)
    return str(raised.value)


def test_an_absent_file_and_a_folder(tmp_path) -> None:
    assert "no checkpoint" in one_line(tmp_path / "none")
    assert "cannot read" in one_line(tmp_path)


def test_a_file_of_another_kind(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"hello, world, this is no checkpoint at all")
    (tmp_path / "b").write_bytes(b"")
    torch.save({"a": 1}, tmp_path / "c")
    for name in "abc":
        assert "not a turngym checkpoint" in one_line(tmp_path / name)


def test_every_torn_length_is_found(tmp_path) -> None:
    path = tmp_path / "x"
    checkpoint.save(path, a=torch.arange(10))
    data = path.read_bytes()
    for length in [*range(1, 60), len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:length])
        assert "torn or corrupt" in one_line(path)


def test_any_flipped_byte_is_found(tmp_path) -> None:
    path = tmp_path / "x"
    checkpoint.save(path, a=torch.arange(10))
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), 37):
        broken = bytearray(data)
        broken[place] ^= 1
        path.write_bytes(broken)
        assert one_line(path)


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch) -> None:
    path = tmp_path / "x"
    checkpoint.save(path, a=1)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device") as raised:
        checkpoint.save(path, a=2)
    assert str(path) in str(raised.value)
    monkeypatch.undo()
    assert checkpoint.load(path) == {"a": 1} and only(tmp_path) == ["x"]


def test_a_crash_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch) -> None:
    path = tmp_path / "x"
    checkpoint.save(path, a=1)
    seen = []

    def stop(source, target) -> None:
        seen.append(checkpoint.load(source))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, a=2)
    assert seen == [{"a": 2}], "what is renamed is whole"
    assert checkpoint.load(path) == {"a": 1} and only(tmp_path) == ["x"]


class Thing:
    pass


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"deep": [1, Thing()]}, r"part\['deep'\]\[1\]: .*Thing"),
        (np.float64(1.0), "numpy.float64"),
        (lambda: None, "function"),
        ({Thing: 1}, "a key of part"),
    ],
)
def test_what_could_not_be_loaded_is_not_written(tmp_path, value, where) -> None:
    with pytest.raises(UsageError, match=where):
        checkpoint.save(tmp_path / "x", part=value)
    assert only(tmp_path) == []


MOMENTS = ("half written", "written", "synced", "before the rename", "renamed", "before the old one goes")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_that_is_killed_while_it_saves_leaves_the_old_or_the_new(tmp_path: Path, moment: str) -> None:
    shelf = checkpoint.Shelf(tmp_path, keep=2)
    for step in (1, 2):
        shelf.save(step, step=step, x=torch.arange(1000))
    child = os.fork()
    if not child:
        try:
            _die(moment)
            checkpoint.Shelf(tmp_path, keep=2).save(3, step=3, x=torch.arange(1000))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    found = shelf.newest()
    assert found["step"] == (3 if moment in ("renamed", "before the old one goes") else 2)
    assert torch.equal(found["x"], torch.arange(1000))
    assert not list(shelf.folder.glob(".*"))
    shelf.save(3, step=3, x=torch.arange(1000))
    assert [file.name for file in shelf.files()] == ["000002.pt", "000003.pt"]


def _die(moment: str) -> None:
    """Exit 9 at the moment; in a child, which nothing is undone in."""
    opened, synced, renamed = open, os.fsync, os.replace

    class Half:
        def __init__(self, *arguments: Any) -> None:
            self.file = opened(*arguments)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            os._exit(9)

    def fsync(handle: int) -> None:
        if moment == "written":
            os._exit(9)
        synced(handle)
        if moment == "synced":
            os._exit(9)

    def replace(*places: Any) -> None:
        if moment == "before the rename":
            os._exit(9)
        renamed(*places)
        if moment == "renamed":
            os._exit(9)

    if moment == "half written":
        vars(files)["open"] = Half
    os.fsync, os.replace = fsync, replace  # type: ignore[assignment]
    if moment == "before the old one goes":
        Path.unlink = lambda *_, **__: os._exit(9)  # type: ignore[method-assign, assignment]


def test_a_torn_file_is_passed_over_for_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a disk leaves it that lost what it said it had written."""
    shelf = checkpoint.Shelf(tmp_path, keep=3)
    for step in (1, 2, 3):
        shelf.save(step, step=step)
    newest, older = shelf.files()[-1], shelf.files()[-2]
    newest.write_bytes(newest.read_bytes()[:-7])
    assert shelf.newest()["step"] == 2
    assert "taking the one before" in caplog.text
    older.write_bytes(b"")
    assert shelf.newest()["step"] == 1
    shelf.files()[0].write_bytes(b"x")
    with pytest.raises(CheckpointError):
        shelf.newest()
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        checkpoint.Shelf(tmp_path / "none").newest()
