"""The SQLite file of a store: its tables, how it is opened, and its errors in one line."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from urd.errors import UrdError, UsageError, first_line
from urd.system.files import make_folder, refuse_special

VERSION = 1
_APPLICATION = 0x75726431  # "urd1": marks the file as ours
_WAIT_MS = 5000  # for another process that writes
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "fuse.sshfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "webdav",
)
_TABLES = """
CREATE TABLE judgements (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    source TEXT NOT NULL,
    model TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    part TEXT,
    path TEXT,
    verdict TEXT,
    score REAL,
    key TEXT UNIQUE,
    image TEXT,
    body TEXT NOT NULL
);
CREATE INDEX judgements_time ON judgements(time);
CREATE INDEX judgements_part ON judgements(part);
CREATE INDEX judgements_path ON judgements(path);
CREATE INDEX judgements_image ON judgements(sequence) WHERE image IS NOT NULL;
CREATE TABLE reviews (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sequence INTEGER NOT NULL REFERENCES judgements(sequence) ON DELETE CASCADE,
    time REAL NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('accept', 'reject')),
    person TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX reviews_sequence ON reviews(sequence);
CREATE TABLE threshold_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    model TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    review REAL,
    reject REAL,
    person TEXT NOT NULL,
    reason TEXT NOT NULL,
    CHECK ((review IS NULL) = (reject IS NULL))
);
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    receiver TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL,
    parked INTEGER NOT NULL DEFAULT 0,
    error TEXT
);
CREATE INDEX outbox_next ON outbox(receiver, parked, sequence);
CREATE TABLE moves (
    sequence INTEGER PRIMARY KEY REFERENCES judgements(sequence),
    source TEXT NOT NULL,
    target TEXT,
    identity TEXT NOT NULL
);
CREATE TABLE files (path BLOB PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class StoreError(UrdError):
    """The store cannot be read or written: nothing of the failed call is in it."""


class Database:
    """One connection to a store for all threads of a process. Each call is one transaction.

    The file has a write-ahead log and is flushed to the disk at every transaction, so that a
    judgement that was stored survives a power cut.

    Raises:
        UsageError: the path is on a network file system, where SQLite can lose data, or it is no
            regular file, or is absent although `create` is false.
        StoreError: the file is damaged, not a store of urd, or from a newer urd.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        refuse_special(path)
        if path.is_dir():
            raise UsageError(f"{path} is a folder; a store is one file, such as line1.sqlite")
        refuse_network(path)
        if not path.exists():
            if not create:
                raise UsageError(f"no store at {path}")
            make_folder(path.parent)
        self.path = path.absolute()
        self._lock = threading.RLock()
        with self._errors():
            self._connection = self._open()
        self._opened = self._file()

    def _file(self) -> tuple[int, int] | None:
        """Which file lies at the path; `None`: there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_WAIT_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            (mark,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if mark != _APPLICATION and (mark or tables):
                raise StoreError(
                    f"{self.path} is a database of another program, not a store of urd"
                )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")  # two processes may open a new store at once
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise StoreError(f"{self.path} comes from a newer urd: update urd, then open it")
            if version == 0:
                for statement in _TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed when the body ends, or undone if it fails.

        Raises:
            StoreError: the disk is full, the file is damaged, or another program locks it.
        """
        with self._lock, self._errors():
            if self._file() != self._opened:  # what is written now would be lost
                raise StoreError(f"{self.path} was removed or replaced: restart urd with the store")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # after a full disk SQLite has undone it itself
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection for queries.

        Raises:
            StoreError: as in `writing`.
        """
        with self._lock, self._errors():
            yield self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} failed: {first_line(error)}") from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def refuse_network(path: Path) -> None:
    """Refuse a path on a network file system.

    Raises:
        UsageError: it is on one; SQLite's locks and log do not work there.
    """
    kind = file_system_of(path)
    if kind.startswith(_NETWORK):
        raise UsageError(f"{path} is on a network file system ({kind}): use a local disk")


def on_network(path: Path) -> bool:
    """Whether a path is on a network file system."""
    return file_system_of(path).startswith(_NETWORK)


def file_system_of(path: Path) -> str:
    """The type of the file system that holds a path, in lower case; empty if it is not known."""
    text = os.path.realpath(path)
    if text.startswith("\\\\"):  # a share on Windows
        return "smb"
    best, kind = "", ""
    for part in psutil.disk_partitions(all=True):
        point = part.mountpoint
        inside = text == point or text.startswith(point.rstrip("/\\") + os.sep)
        if inside and len(point) >= len(best):
            best, kind = point, part.fstype.lower()
    return kind
