"""Writing files so that a reader sees the old one or the new one, never half of it.

What is being written lies in a folder `.<name>.urd-part` beside the file. It is locked while its
process lives: one that nobody holds was left by a killed process, and the next writer removes it.
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
    """Be the only writer of `folder` while the body runs; a call inside of another one passes.

    The folder is made, and removed again if it stays empty. What killed calls have left in it is
    removed.

    Args:
        below: look for what they have left in the folders below, too; these should be ours.
        wait: seconds to wait for another writer to end.

    Raises:
        NotWritten: another call writes into it, or nobody can.
        UsageError: it is a file, or a link that leads nowhere.
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
                    f"another call of urd is writing to {folder}; wait for it, or use another one"
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
    """A folder in `beside` for what is not finished; it ends with the body or, killed, later.

    Raises:
        OSError: it cannot be made.
    """
    from filelock import Timeout

    with ExitStack() as stack:
        place = beside / f".{secrets.token_hex(8)}{_PART}"
        try:
            stack.enter_context(_holding(place))
        except Timeout:  # somebody who cleans up took it for a leftover, before it was locked
            place = beside / f".{secrets.token_hex(8)}{_PART}"
            stack.enter_context(_holding(place, wait=1.0))
        yield place


@contextmanager
def _holding(place: Path, wait: float = 0.0) -> Iterator[None]:
    """Own the folder `place`, by a lock that ends with this process, and remove it at the end.

    Raises:
        Timeout: another thread or process owns it; of the type OSError too.
        OSError: it cannot be made or locked.
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
                continue  # whom we waited for has removed it
            with suppress(OSError):
                place.rmdir()
            raise OSError(getattr(error, "errno", None), _reason(error)) from error
    try:
        yield
    finally:
        shutil.rmtree(place, ignore_errors=True)
        lock.release()
        with suppress(OSError):  # Windows keeps the file of a lock until it is released
            place.rmdir()


def remove_leftovers(folder: Path, *, below: bool = False) -> None:
    """Delete what killed processes were writing in `folder`, or also in all folders below it."""
    for parent, folders, files in os.walk(folder):
        for name in filter(is_unfinished, [*folders, *files]):
            with suppress(OSError):  # somebody holds it
                _remove_unless_held(Path(parent, name))
        folders[:] = [name for name in folders if below and not is_unfinished(name)]


def _remove_unless_held(place: Path) -> None:
    if place.is_dir():
        with _holding(place):
            pass
    else:
        place.unlink()  # an earlier version wrote to files of such names


def is_unfinished(name: str) -> bool:
    """A file or folder of this name holds what is being written, or was when a call was killed."""
    return name.startswith(".") and name.endswith(_PART)


def write_atomically(path: Path, write: Write, *, one_of_many: bool = False) -> None:
    """Let `write` fill a new file, then put it in the place of `path`.

    Args:
        one_of_many: do not look for leftovers beside it; who writes many has done so before.

    Raises:
        NotWritten: full disk, no permission; the old file is intact.
    """
    if not one_of_many:
        remove_leftovers(path.parent)
    write_together({path: write})


def write_together(writes: Mapping[Path, Write]) -> None:
    """Write files of one folder that belong together; none is replaced before all are written.

    The last one is what readers look for: it is absent while the others are replaced.

    Raises:
        NotWritten: as `write_atomically`.
        UsageError: one of them is a pipe, a socket or a device.
    """
    *others, last = writes
    path = last
    for path in writes:
        refuse_special(path)  # putting a file in the place of a device would end the device
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
    new.chmod(mode)  # a library that writes the file may make it private
    with new.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def growing(path: Path, *, mode: Literal["a", "w"] = "w") -> Iterator[Callable[[str], None]]:
    """A file that lines are added to, each at once; readers drop one that a kill has cut.

    Raises:
        NotWritten: full disk, no permission.
    """

    def add_line(line: str) -> None:
        rest = f"{line}\n".encode()
        try:
            while rest:  # a disk that is nearly full takes a part
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
    """Nothing lies in it but what is being written, or was by a call that was killed."""
    return all(is_unfinished(path.name) for path in folder.iterdir())


def refuse_existing(out: Path, *, allowed: bool, hint: str) -> None:
    """Refuse an output folder that holds something, unless `allowed`; creates nothing.

    `hint` names the options that would allow it.

    Raises:
        UsageError: `out` is a file, or a folder that is not empty.
    """
    _refuse_file(out)
    if out.is_dir() and not is_empty(out) and not allowed:
        raise UsageError(f"{out} exists and is not empty; pass {hint}")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        UsageError: it is a file, or a link that leads nowhere.
        NotWritten: it cannot be made.
    """
    _refuse_file(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(f"cannot make the folder {folder}: {_reason(error)}") from error


def _refuse_file(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out takes a folder")
    if out.is_symlink() and not out.exists():
        raise UsageError(f"{out} is a link that leads nowhere; --out takes a folder")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
