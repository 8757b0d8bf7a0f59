"""Read a watched file whole, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from urd.serving.file_identity import identity_of, status_of

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # a pipe that took the file's name must not make us wait
    | getattr(os, "O_BINARY", 0)
)


class Changed(Exception):
    """The file was replaced or written to while it was read: it is not complete."""


class TooLarge(Exception):
    """The file is larger than allowed."""


def read_whole(path: Path, identity: str, most: int) -> bytes:
    """The bytes of a file, if it is the same file before and after.

    Args:
        identity: as `identity_of` gave it when the file was complete.
        most: bytes.

    Raises:
        Changed, TooLarge: see there.
        OSError: it cannot be read.
    """
    number = os.open(path, _FLAGS)
    with open(number, "rb", closefd=True) as file:  # noqa: PTH123 - it has a number, not a path
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode) or identity_of(status) != identity:
            raise Changed
        if status.st_size > most:
            raise TooLarge
        data = file.read(most + 1)
        after = os.fstat(number)
    if identity_of(after) != identity or len(data) != after.st_size or is_changed(path, identity):
        raise Changed
    return data


def is_changed(path: Path, identity: str) -> bool:
    """Whether a path now names another file, or one that was written to."""
    status = status_of(path)
    return status is None or identity_of(status) != identity
