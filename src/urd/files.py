"""Writing files so that a reader sees the old one or the new one, never half of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from urd.errors import UrdError, UsageError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in the place of `path`.

    Raises:
        UrdError: the file can not be written (full disk, no permission); the old one is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UrdError(f"can not write {path}: {reason}; nothing was replaced") from error
    finally:
        temporary.unlink(missing_ok=True)


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
        raise UrdError(f"can not make the folder {folder}: {error.strerror}") from error
