"""Atomic files: whole or absent, and no stray file whatever goes wrong."""

import errno
import os
from pathlib import Path

import pytest

from turngym.envs import UsageError
from turngym.trainers.files import ASIDE, sweep, write_bytes, write_text


def test_text_and_bytes_arrive_and_the_folder_is_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.json", "größer\n")
    write_bytes(str(tmp_path / "c.bin"), b"\x00\xff")
    assert (tmp_path / "a" / "b.json").read_bytes() == "größer\n".encode()
    assert (tmp_path / "c.bin").read_bytes() == b"\x00\xff"


def test_an_old_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old and long")
    write_text(tmp_path / "a", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "new")]


def test_a_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"^cannot write .*a: No space left on device$"):
        write_text(tmp_path / "a", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]


def test_a_stop_leaves_no_stray_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*names: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a", tmp_path):
        with pytest.raises(UsageError, match="^cannot write "):
            write_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_aside_is_swept_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in (".hidden", "plain", ".config.json", "deep/.gitkeep")]
    gone = [tmp_path / name for name in (".run.json.0a1b2c3d", "deep/.000001.pt.ffffffff", f"{ASIDE}abc/config.json")]
    for path in (*kept, *gone):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    sweep(tmp_path)
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)
    assert not (tmp_path / f"{ASIDE}abc").exists()
    sweep(tmp_path / "nowhere")
