"""Which file a path names: the facts that change when a file is replaced or written to."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

_BLOCK = 1 << 20


def identity_of(status: os.stat_result) -> str:
    """Size, time of the content, time of the last change, and inode, as one text.

    Writing, replacing and renaming a file change it, also when size and time stay the same.
    """
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def status_of(path: str | Path) -> os.stat_result | None:
    """The status of the file that a path names, through links; `None`: there is none."""
    try:
        return os.stat(path)  # noqa: PTH116 - pathlib is slower, and refuses some names
    except (OSError, ValueError):
        return None


def sha256_of(path: Path) -> str:
    """SHA-256 of the content.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def text_of(path: Path) -> str:
    """A path as valid text that `path_of` reads back; names may hold bytes that are not UTF-8."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return text


def path_of(text: str) -> Path:
    """The path of `text_of`. An absolute path never begins with a quotation mark."""
    return Path(json.loads(text) if text.startswith('"') else text)
