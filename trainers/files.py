"""Files that are whole or absent: written aside, flushed to the disk, then renamed."""

import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from ..envs.errors import UsageError

ASIDE = ".writing-"  # what the names of folders begin with that are not whole yet
_ASIDE = re.compile(re.escape(ASIDE) + r".*|\..+\.[0-9a-f]{8}")


def write_bytes(path: Path | str, data: bytes) -> None:
    """Put ``data`` at ``path`` at once, making its folder if needed.

    A reader sees the old file or the new one, also after a crash. Raises UsageError when the disk is full or
    the place cannot be written, and then leaves no stray file and the old one as it was.
    """
    path = Path(path)
    aside = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:  # a stop by the user leaves no stray file either
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def sweep(folder: Path | str) -> None:
    """Remove, in and below ``folder``, what a killed process had written aside and not yet renamed."""
    for stray in [path for path in Path(folder).rglob(".*") if _ASIDE.fullmatch(path.name)]:
        if stray.is_dir():
            shutil.rmtree(stray, ignore_errors=True)
        else:
            stray.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """``write_bytes`` of ``text`` in UTF-8."""
    write_bytes(path, text.encode())


def _sync_folder(folder: Path) -> None:
    """Flush the rename itself; where a file system cannot, a crash may bring the old file back."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
