"""Move a file without ever replacing another one, and take it from its folder by one rename."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from urd.serving.file_identity import sha256_of, status_of
from urd.system.files import temporary_folder

_TAKEN = ".urd-taken"
_MOST_NAMES = 1000


def place(source: Path, target: Path, number: int) -> Path | None:
    """Put a file also at `target`, or at a numbered name if that one is taken; `source` stays.

    On one file system it gets a second name. To another one it is copied, and flushed to the disk.
    If the same content with the same time is there already, a killed call has put it there.

    Returns:
        Where this call has put it; `None`: it was there.

    Raises:
        OSError: it cannot be put there; `target` is as before.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for name in _names(target, number):
        if _is_copy(source, name):
            return None
        if os.path.lexists(name):
            continue
        try:
            if source.is_symlink():  # the link would lead elsewhere from another folder
                return _copy(source, target, number)
            os.link(source, name)
            return name
        except FileExistsError:
            continue
        except OSError:  # another file system, or one without hard links
            return _copy(source, target, number)
    raise FileExistsError(errno.EEXIST, "too many files of that name", str(target))


def was_placed(target: Path, number: int, size: int, time: int) -> bool:
    """Whether a file of this size and time (in ns) is at `target`, perhaps with the number."""
    found = map(status_of, _names(target, number, most=2))
    return any(s is not None and (s.st_size, s.st_mtime_ns) == (size, time) for s in found)


def settle(source: Path, target: Path, number: int) -> Path:
    """Move a file on one file system to `target`, or to a numbered name if that one is taken.

    Raises:
        OSError: it cannot be moved.
    """
    for name in _names(target, number):
        try:
            os.link(source, name)
            source.unlink()
            return name
        except FileExistsError:
            continue
        except OSError:  # no hard links here: claim the name, then replace our own empty file
            with suppress(FileExistsError):
                name.open("xb").close()
                try:
                    source.replace(name)
                except OSError:
                    name.unlink()
                    raise
                return name
    raise FileExistsError(errno.EEXIST, "too many files of that name", str(target))


def taken_name(source: Path, number: int) -> Path:
    """The hidden name in its folder of a file that is being removed."""
    return source.with_name(f".{number}{_TAKEN}")


def _copy(source: Path, target: Path, number: int) -> Path:
    with temporary_folder(target.parent) as folder:
        new = folder / "copy"
        shutil.copy2(source, new)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        placed = settle(new, target, number)
    _flush(placed.parent)
    return placed


def _flush(folder: Path) -> None:
    """Write the names in a folder to the disk, before the file elsewhere is deleted."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _is_copy(source: Path, there: Path) -> bool:
    """Whether both are one file, or have the same content and time."""
    a, b = status_of(source), status_of(there)
    if a is None or b is None or (a.st_size, a.st_mtime_ns) != (b.st_size, b.st_mtime_ns):
        return False
    return os.path.samestat(a, b) or sha256_of(source) == sha256_of(there)


def _names(target: Path, number: int, most: int = _MOST_NAMES) -> Iterator[Path]:
    """`a.png`, `a_7.png`, `a_7_2.png` and so on."""
    yield target
    for count in range(1, most):
        more = f"_{count}" if count > 1 else ""
        yield target.with_name(f"{target.stem}_{number}{more}{target.suffix}")
