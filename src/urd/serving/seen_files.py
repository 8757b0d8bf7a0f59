"""The files of a watched folder that are judged and still there, also after a restart."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from urd.serving.store import Store


class SeenFiles:
    """Identities by path. They spare a restart to read every file again.

    Nothing depends on them: a file that is forgotten is read, and its key finds its row. So they
    are written to the store now and then, in one transaction for many.

    Raises:
        StoreError: the store cannot be read.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._unsaved: set[str] = set()
        begin = os.fsencode(os.path.join(folder, ""))  # noqa: PTH118 - with a separator at the end
        end = begin[:-1] + bytes([begin[-1] + 1])
        with store.database.reading() as connection:
            rows = connection.execute(
                "SELECT path, identity FROM files WHERE path >= ? AND path < ?", (begin, end)
            )
            self._identities = {os.fsdecode(row["path"]): str(row["identity"]) for row in rows}

    def __len__(self) -> int:
        return len(self._identities)

    def get(self, path: str) -> str | None:
        """The identity with which a file was judged."""
        return self._identities.get(path)

    def add(self, path: str, identity: str) -> None:
        self._identities[path] = identity
        self._unsaved.add(path)

    def forget(self, path: str) -> None:
        if self._identities.pop(path, None) is not None:
            self._unsaved.add(path)

    def keep_only(self, paths: set[str]) -> None:
        """Forget the files that have left the folder."""
        for path in [path for path in self._identities if path not in paths]:
            self.forget(path)

    def save(self) -> None:
        """Write what has changed to the store.

        Raises:
            StoreError: it cannot be written; the next call tries again.
        """
        if not self._unsaved:
            return
        gone = [path for path in self._unsaved if path not in self._identities]
        there = self._unsaved.difference(gone)
        with self._store.database.writing() as connection:
            connection.executemany("DELETE FROM files WHERE path = ?", _keys(gone))
            connection.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?)",
                ((os.fsencode(path), self._identities[path]) for path in there),
            )
        self._unsaved.clear()


def _keys(paths: Iterable[str]) -> Iterable[tuple[bytes]]:
    return ((os.fsencode(path),) for path in paths)
