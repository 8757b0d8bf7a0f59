"""Writing files so that a reader sees the old one or the new one, never half of it."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from urd.errors import UrdError, UsageError

_PART = ".urd-part"
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in the place of `path`.

    Raises:
        UrdError: the file cannot be written (full disk, no permission); the old one is intact.
    """
    # Of a length of its own: the name of the file may be as long as the file system allows.
    temporary = path.with_name(f".{os.getpid()}-{threading.get_ident()}{_PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # a library that writes the file may make it private
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UrdError(f"cannot write {path}: {reason}; nothing was replaced") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_parts(folder: Path) -> None:
    """Delete what a process that was killed while it wrote has left in a folder of ours."""
    for part in folder.glob(f".*{_PART}"):
        part.unlink(missing_ok=True)


def printable(path: Path) -> str:
    """A path as valid text: bytes of its name that are not UTF-8 become escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def special(path: Path) -> str | None:
    """What `path` names if it is no file and no folder: a pipe, a socket or a device.

    Whoever opens one may wait for ever, or read without end.
    """
    try:
        return _SPECIAL.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):  # not there, or no possible name: the reader says so
        return None


def refuse_special(path: Path) -> None:
    """To be called before a file is opened that a user has named.

    Raises:
        UsageError: it is a pipe, a socket or a device.
    """
    kind = special(path)
    if kind is not None:
        raise UsageError(f"{path} is not a regular file but {kind}")


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def refuse_existing(out: Path, *, allowed: bool, hint: str) -> None:
    """Refuse an output folder that holds something, unless `allowed`; creates nothing.

    `hint` names the options that would allow it.

    Raises:
        UsageError: `out` is a file, or a folder that is not empty.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out takes a folder")
    if out.is_dir() and any(out.iterdir()) and not allowed:
        raise UsageError(f"{out} exists and is not empty; pass {hint}")


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UrdError(f"cannot make the folder {folder}: {error.strerror}") from error
