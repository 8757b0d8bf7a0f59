"""Which folders are watched with a store, so that no file belongs to two watches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from urd.errors import NotWritten
from urd.serving.store import Store, StoreError
from urd.system.files import printable

if TYPE_CHECKING:
    from filelock import BaseFileLock

_WAIT = 1.0  # seconds; another watch may be looking whether our lock is free
_FACT = "watched "


@contextmanager
def only_watch_of(folder: Path, store: Store) -> Iterator[None]:
    """Be the only watch with this store of a folder, of all below it and of all above it.

    The operating system frees the lock of a process that died; its entry is then of no effect.

    Raises:
        NotWritten: there is another one; its cause is a `Timeout`.
        StoreError: the store fails.
    """
    place = os.path.realpath(folder)
    name = _name(place)
    lock = _lock(store, name)
    try:
        lock.acquire(timeout=_WAIT)
    except Timeout as error:
        raise NotWritten(f"another urd watch already watches {folder}: end it first") from error
    try:
        _note_down(store, name, place)
        _refuse_overlap(store, name, place)
        yield
    finally:
        with suppress(StoreError):
            _forget(store, name)
        lock.release()


def _refuse_overlap(store: Store, own: str, place: str) -> None:
    with store.database.reading() as connection:
        rows = connection.execute(
            "SELECT name, value FROM facts WHERE substr(name, 1, ?) = ?", (len(_FACT), _FACT)
        ).fetchall()
    watched = {row["name"]: os.fsdecode(bytes.fromhex(row["value"])) for row in rows}
    for name, other in watched.items():
        if name == own or not (_contains(other, place) or _contains(place, other)):
            continue
        lock = _lock(store, name)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            how = "contains" if _contains(other, place) else "lies in"
            raise NotWritten(
                f"another urd watch with this store watches {printable(Path(other))}, which {how} "
                f"{printable(Path(place))}: end it first, or watch folders beside each other"
            ) from error
        lock.release()


def _contains(outer: str, inner: str) -> bool:
    return inner.startswith(outer.rstrip(os.sep) + os.sep)


def _name(place: str) -> str:
    return _FACT + hashlib.sha256(os.fsencode(place)).hexdigest()[:12]


def _lock(store: Store, name: str) -> BaseFileLock:
    digest = name.removeprefix(_FACT)
    beside = store.path.with_name(f"{store.path.name}.{digest}.watches")
    return FileLock(beside, thread_local=False, mode=0o666)


def _note_down(store: Store, name: str, place: str) -> None:
    store.set_fact(name, os.fsencode(place).hex())  # a name may hold any bytes


def _forget(store: Store, name: str) -> None:
    with store.database.writing() as connection:
        connection.execute("DELETE FROM facts WHERE name = ?", (name,))
