"""Write files so that a reader sees the old file or the new one, never half of it.

An unfinished file is in a folder `.<random>.urd-part` beside its target. The process that writes it
holds a lock on this folder. If nobody holds the lock, the process was killed, and the next writer
removes the folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from urd.errors import NotWritten, UsageError

_PART = ".urd-part"
_WRITER = f".writer{_PART}"
_of_this_thread = threading.local()
Write = Callable[[Path], object]
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def writing(folder: Path, *, below: bool = True, wait: float = 0.0) -> Iterator[None]:
    """Be the only writer of `folder` while the body runs; nested calls are allowed.

    Makes the folder, and removes it again if it stays empty. Removes leftovers of killed calls.

    Args:
        below: remove leftovers in the folders below, too; use it only for folders that urd owns.
        wait: seconds to wait for another writer to end.

    Raises:
        NotWritten: another call writes to the folder, or it cannot be made or locked.
        UsageError: `folder` is a file, or a link that leads nowhere.
    """
    from filelock import Timeout

    held: set[str] = _of_this_thread.__dict__.setdefault("folders", set())
    name = os.path.realpath(folder)
    if name in held:
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(_holding(folder / _WRITER, wait))
            except Timeout as error:
                raise NotWritten(
                    f"another call of urd is writing to {folder}; wait for it, or use another "
                    "folder"
                ) from error
            except OSError as error:
                raise NotWritten(f"cannot write to {folder}: {_reason(error)}") from error
            held.add(name)
            stack.callback(held.remove, name)
            remove_leftovers(folder, below=below)
            yield
    finally:
        with suppress(OSError):
            for path in made:
                path.rmdir()


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """A locked folder in `beside` for unfinished files; removed when the body ends.

    If the process is killed, the next writer removes it.

    Raises:
        OSError: the folder cannot be made.
    """
    from filelock import Timeout

    with ExitStack() as stack:
        place = beside / f".{secrets.token_hex(8)}{_PART}"
        try:
            stack.enter_context(_holding(place))
        except Timeout:  # another process took it for a leftover before we could lock it
            place = beside / f".{secrets.token_hex(8)}{_PART}"
            stack.enter_context(_holding(place, wait=1.0))
        yield place


@contextmanager
def _holding(place: Path, wait: float = 0.0) -> Iterator[None]:
    """Own the folder `place` while the body runs, then remove it.

    The operating system frees the lock if this process dies.

    Raises:
        Timeout: another thread or process owns the folder; `Timeout` is also an OSError.
        OSError: the folder cannot be made or locked.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(place / "lock")
    for more in reversed(range(9)):
        try:
            place.mkdir(exist_ok=True)
            lock.acquire(timeout=wait)
            break
        except Timeout:
            raise
        except (OSError, NotImplementedError) as error:
            if isinstance(error, FileNotFoundError) and more:
                continue  # the previous owner removed the folder between our two steps: try again
            with suppress(OSError):
                place.rmdir()
            raise OSError(getattr(error, "errno", None), _reason(error)) from error
    lock_file = _identity(place / "lock")
    try:
        yield
    finally:
        if (
            _identity(place / "lock") == lock_file
        ):  # another folder may have taken the path meanwhile
            shutil.rmtree(place, ignore_errors=True)
        lock.release()
        with suppress(OSError):  # Windows cannot delete the lock file until the lock is released
            place.rmdir()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Delete the unfinished files of killed processes in `folder`, with `below` in its subfolders.

    A folder that a living process holds stays.
    """
    for parent, folders, files in os.walk(folder):
        for name in filter(is_unfinished, [*folders, *files]):
            with suppress(OSError):  # a living process holds it
                _remove_unless_held(Path(parent, name))
        folders[:] = [name for name in folders if below and not is_unfinished(name)]


def _remove_unless_held(place: Path) -> None:
    if place.is_dir():
        with _holding(place):
            pass
    else:
        place.unlink()  # an earlier version used files, not folders, with such names


def is_unfinished(name: str) -> bool:
    """Whether a file or folder of this name is unfinished: being written, or left by a kill."""
    return name.startswith(".") and name.endswith(_PART)


def write_atomically(path: Path, write: Write, *, one_of_many: bool = False) -> None:
    """Let `write` fill a new file, then replace `path` by it.

    Args:
        one_of_many: do not look for leftovers beside it; the caller has removed them before.

    Raises:
        NotWritten: the disk is full, or there is no permission; the old file is unchanged.
        UsageError: `path` is a pipe, a socket or a device.
    """
    if not one_of_many:
        remove_leftovers(path.parent)
    write_together({path: write})


def write_together(writes: Mapping[Path, Write]) -> None:
    """Write files of one folder that belong together; replace none before all are written.

    Readers look for the last file: it is absent while the others are replaced.

    Raises:
        NotWritten: as in `write_atomically`.
        UsageError: one of the paths is a pipe, a socket or a device.
    """
    *others, last = writes
    path = last
    for path in writes:
        refuse_special(path)  # replacing a device by a file would remove the device
    try:
        last.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(last.parent) as place:
            for path, write in writes.items():
                if path.is_dir():
                    raise IsADirectoryError(0, "it is a folder")
                _fill(place / path.name, write)
            if others:
                last.unlink(missing_ok=True)
            for path in writes:
                (place / path.name).replace(path)
    except OSError as error:
        raise NotWritten(f"cannot write {path}: {_reason(error)}; nothing was replaced") from error


def _fill(new: Path, write: Write) -> None:
    new.touch()
    mode = new.stat().st_mode
    write(new)
    new.chmod(mode)  # a library may have made the file readable for its owner only
    # On the disk before it is renamed: else a power cut could leave an empty file under the name.
    with new.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def growing(path: Path, *, mode: Literal["a", "w"] = "w") -> Iterator[Callable[[str], None]]:
    """Open a file and yield a function that adds one line, written at once.

    A kill can cut the last line; readers skip such a line.

    Raises:
        NotWritten: the disk is full, or there is no permission.
        UsageError: `path` is a pipe, a socket or a device.
    """

    def add_line(line: str) -> None:
        rest = f"{line}\n".encode()
        try:
            while rest:  # an almost full disk may accept only a part
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise NotWritten(f"cannot write {path}: {_reason(error)}") from error

    refuse_special(path)
    try:
        file = path.open(f"{mode}b", buffering=0)
    except OSError as error:
        raise NotWritten(f"cannot write {path}: {_reason(error)}") from error
    with file:
        yield add_line


def absolute(path: str | Path) -> Path:
    """An absolute path without `..`; unlike `Path.resolve`, links keep their own names."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib has no such function


def printable(path: Path) -> str:
    """A path as valid text: bytes of its name that are not UTF-8 are written as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def special(path: Path) -> str | None:
    """Say "a pipe", "a socket" or "a device" if `path` is one; else `None`.

    Opening one may wait for ever, and reading it may never end.
    """
    try:
        return _SPECIAL.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):  # missing, or not a valid name: the code that opens it says so
        return None


def refuse_special(path: Path) -> None:
    """Call this before you open a file that a user has named.

    Raises:
        UsageError: `path` is a pipe, a socket or a device.
    """
    kind = special(path)
    if kind is not None:
        raise UsageError(f"{path} is not a regular file but {kind}")


def write_text(path: Path, text: str) -> None:
    write_atomically(path, _writer_of(text))


def write_texts(texts: Mapping[Path, str]) -> None:
    """`write_together` of texts."""
    write_together({path: _writer_of(text) for path, text in texts.items()})


def _writer_of(text: str) -> Write:
    return lambda new: new.write_text(text, encoding="utf-8")


def json_text(content: Any) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    write_text(path, json_text(content))


def is_empty(folder: Path) -> bool:
    """Whether the folder holds nothing, or only unfinished files."""
    return all(is_unfinished(path.name) for path in folder.iterdir())


def refuse_existing(out: Path, *, allowed: bool, hint: str) -> None:
    """Refuse an output folder that is not empty, unless `allowed`; creates nothing.

    `hint` names the options that allow it.

    Raises:
        UsageError: `out` is a file, a link that leads nowhere, or a folder that is not empty.
    """
    _refuse_file(out)
    if out.is_dir() and not is_empty(out) and not allowed:
        raise UsageError(f"{out} exists and is not empty; pass {hint}")


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        UsageError: `folder` is a file, or a link that leads nowhere.
        NotWritten: it cannot be made.
    """
    _refuse_file(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(f"cannot make the folder {folder}: {_reason(error)}") from error


def _refuse_file(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out needs a folder")
    if out.is_symlink() and not out.exists():
        raise UsageError(f"{out} is a link that leads nowhere; --out needs a folder")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
