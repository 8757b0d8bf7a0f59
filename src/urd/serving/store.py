"""The store of a line: judgements, reviews, changes of thresholds, and events to be sent."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urd.errors import UsageError
from urd.serving.database import Database, StoreError
from urd.serving.record import Record, Stored, iso
from urd.system.files import write_atomically

__all__ = ["Addition", "Delivery", "Move", "Store", "StoreError"]
_ROW = """
SELECT j.sequence, j.body, j.image, r.time AS reviewed, r.decision, r.person, r.reason
FROM judgements j LEFT JOIN reviews r
    ON r.id = (SELECT max(id) FROM reviews WHERE sequence = j.sequence)
"""
_MOST_ROWS = 1000  # of one answer


@dataclass(frozen=True)
class Move:
    """What becomes of a watched file after its judgement.

    Attributes:
        source: the file.
        target: where to move it; `None`: delete it.
        identity: size and time of the judged file, so that a new file of that name is left alone.
        sequence: of the judgement.
    """

    source: str
    target: str | None
    identity: str
    sequence: int = 0


@dataclass(frozen=True)
class Addition:
    """A judgement to store, who gets it as an event, and what becomes of its file."""

    record: Record
    receivers: Sequence[str] = ()
    move: Move | None = None


@dataclass(frozen=True)
class Delivery:
    """An event in the outbox: at least once to one receiver.

    Attributes:
        id: the same at each attempt, so that a receiver can drop repetitions.
        body: JSON text, always the same bytes.
    """

    id: str
    sequence: int
    receiver: str
    body: str
    attempts: int
    error: str | None = None


class Store:
    """One SQLite file per line. Several processes and threads may use it at the same time.

    Raises:
        UsageError, StoreError: as `Database`.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.database = Database(path, create=create)
        self.path = self.database.path

    @property
    def images(self) -> Path:
        """The folder of kept images, beside the file."""
        return self.path.with_name(self.path.name + ".images")

    def close(self) -> None:
        self.database.close()

    def add(
        self, record: Record, receivers: Sequence[str] = (), move: Move | None = None
    ) -> tuple[Stored, bool]:
        """Store a judgement, its events and what becomes of its file, in one transaction.

        Returns:
            The row, and whether it is new: an earlier row with the same key is given back.

        Raises:
            StoreError: nothing was stored.
        """
        return self.add_many([Addition(record, tuple(receivers), move)])[0]

    def add_many(self, additions: Sequence[Addition]) -> list[tuple[Stored, bool]]:
        """`add` for several judgements in one transaction: all are stored, or none is.

        Raises:
            StoreError: nothing was stored.
        """
        with self.database.writing() as connection:
            return [self._add(connection, addition) for addition in additions]

    def _add(self, connection: sqlite3.Connection, addition: Addition) -> tuple[Stored, bool]:
        record, receivers, move = addition.record, addition.receivers, addition.move
        if record.key is not None and (known := self._by_key(connection, record.key)):
            return known, False
        body = record.body()
        cursor = connection.execute(
            "INSERT INTO judgements (time, source, model, model_sha256, part, path, verdict, "
            "score, key, image, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.time,
                record.source,
                record.model,
                record.model_sha256,
                record.part,
                body["path"],
                body["verdict"],
                body["score"],
                record.key,
                record.image,
                json.dumps(body, allow_nan=False),
            ),
        )
        sequence = int(cursor.lastrowid or 0)
        stored = Stored(sequence, body, record.image)
        event = json.dumps(event_of(stored), allow_nan=False)
        connection.executemany(
            "INSERT INTO outbox (id, sequence, receiver, body, due) VALUES (?, ?, ?, ?, ?)",
            [(f"msg_{secrets.token_hex(16)}", sequence, name, event, 0.0) for name in receivers],
        )
        if move is not None:
            connection.execute(
                "INSERT INTO moves VALUES (?, ?, ?, ?)",
                (sequence, move.source, move.target, move.identity),
            )
        return stored, True

    def check(self) -> None:
        """Write to the store.

        Raises:
            StoreError: it cannot be written.
        """
        self.set_fact("checked", str(time.time()))

    def set_fact(self, name: str, value: str) -> None:
        """Keep a text under a name, for example what a restart must know."""
        with self.database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def fact(self, name: str) -> str | None:
        with self.database.reading() as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row["value"])

    def by_key(self, key: str) -> Stored | None:
        """The row with this key."""
        with self.database.reading() as connection:
            return self._by_key(connection, key)

    def get(self, sequence: int) -> Stored | None:
        with self.database.reading() as connection:
            row = connection.execute(f"{_ROW} WHERE j.sequence = ?", (sequence,)).fetchone()
        return None if row is None else _stored(row)

    def newest(self) -> Stored | None:
        rows = self.search(limit=1)
        return rows[0] if rows else None

    def search(
        self,
        *,
        part: str | None = None,
        verdict: str | None = None,
        model: str | None = None,
        since: float | None = None,
        until: float | None = None,
        before: int | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[Stored]:
        """Rows, the newest first.

        Args:
            part: the part's identity, or the beginning of it.
            since, until: seconds since 1970.
            before, after: only rows with a smaller or larger sequence.
            limit: at most so many rows, and never over 1,000.
        """
        wanted: dict[str, Any] = {
            "j.verdict = ?": verdict,
            "j.model = ?": model,
            "j.time >= ?": since,
            "j.time <= ?": until,
            "j.sequence < ?": before,
            "j.sequence > ?": after,
            "substr(j.part, 1, length(?)) = ?": part,
        }
        given = {where: value for where, value in wanted.items() if value is not None}
        values = [value for where, value in given.items() for _ in range(where.count("?"))]
        where = f"WHERE {' AND '.join(given)}" if given else ""
        with self.database.reading() as connection:
            rows = connection.execute(
                f"{_ROW} {where} ORDER BY j.sequence DESC LIMIT ?",
                (*values, max(0, min(limit, _MOST_ROWS))),
            ).fetchall()
        return [_stored(row) for row in rows]

    def rows(self, since: float | None = None, until: float | None = None) -> Iterator[Stored]:
        """All rows of a time, the oldest first, read in portions."""
        last, end = 0, float("inf") if until is None else until
        while True:
            with self.database.reading() as connection:
                found = connection.execute(
                    f"{_ROW} WHERE j.sequence > ? AND j.time >= ? AND j.time <= ? "
                    "ORDER BY j.sequence LIMIT ?",
                    (last, since or 0.0, end, _MOST_ROWS),
                ).fetchall()
            if not found:
                return
            yield from map(_stored, found)
            last = found[-1]["sequence"]

    def counts(self, since: float = 0.0, model: str | None = None) -> dict[str, int]:
        """How many rows have each verdict; rows without one count under "none"."""
        with self.database.reading() as connection:
            rows = connection.execute(
                "SELECT coalesce(verdict, 'none') AS verdict, count(*) AS n FROM judgements "
                "WHERE time >= ? AND (? IS NULL OR model = ?) GROUP BY verdict",
                (since, model, model),
            ).fetchall()
        return {row["verdict"]: row["n"] for row in rows}

    def scores(self, model_sha256: str, last: int = 500) -> list[tuple[int, float]]:
        """Sequence and score of the last judged parts of a model, the oldest first."""
        with self.database.reading() as connection:
            rows = connection.execute(
                "SELECT sequence, score FROM judgements WHERE model_sha256 = ? "
                "AND score IS NOT NULL ORDER BY sequence DESC LIMIT ?",
                (model_sha256, min(last, 10 * _MOST_ROWS)),
            ).fetchall()
        return [(row["sequence"], row["score"]) for row in reversed(rows)]

    def review(self, sequence: int, decision: str, person: str, reason: str = "") -> Stored:
        """Store what a person decided about a part that was not OK.

        Raises:
            UsageError: there is no such row, its verdict is OK, or a value is wrong.
        """
        found = self.get(sequence)
        if found is None:
            raise UsageError(f"there is no judgement {sequence}")
        if found.body["verdict"] not in ("REVIEW", "NG"):
            raise UsageError(f"judgement {sequence} is {found.body['verdict']}: nothing to review")
        if decision not in ("accept", "reject"):
            raise UsageError(f"the decision is {decision[:40]!r}; give accept or reject")
        person = _said(person, "the person's name")
        with self.database.writing() as connection:
            connection.execute(
                "INSERT INTO reviews (sequence, time, decision, person, reason) "
                "VALUES (?, ?, ?, ?, ?)",
                (sequence, time.time(), decision, person, reason[:_LONGEST].strip()),
            )
        row = self.get(sequence)
        assert row is not None
        return row

    def change_thresholds(
        self,
        model: str,
        model_sha256: str,
        review: float | None,
        reject: float | None,
        person: str,
        reason: str,
    ) -> int:
        """Store thresholds that a person has set for one model; `None` for both: as calibrated.

        Returns:
            The number of the change, which answers name.

        Raises:
            UsageError: the name or the reason is empty.
        """
        who, why = _said(person, "the person's name"), _said(reason, "the reason")
        with self.database.writing() as connection:
            cursor = connection.execute(
                "INSERT INTO threshold_changes (time, model, model_sha256, review, reject, person, "
                "reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (time.time(), model, model_sha256, review, reject, who, why),
            )
        return int(cursor.lastrowid or 0)

    def threshold_change(self, model_sha256: str) -> dict[str, Any] | None:
        """The last change for a model; `None`: nobody has changed them."""
        changes = self.threshold_changes(model_sha256, limit=1)
        return changes[0] if changes else None

    def threshold_changes(self, model_sha256: str, limit: int = 100) -> list[dict[str, Any]]:
        """The changes for a model, the newest first."""
        with self.database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM threshold_changes WHERE model_sha256 = ? ORDER BY id DESC LIMIT ?",
                (model_sha256, limit),
            ).fetchall()
        return [{**dict(row), "time": iso(row["time"])} for row in rows]

    def pending_moves(self) -> list[Move]:
        """Files that are judged but not yet moved or deleted."""
        with self.database.reading() as connection:
            rows = connection.execute("SELECT * FROM moves ORDER BY sequence").fetchall()
        return [Move(r["source"], r["target"], r["identity"], r["sequence"]) for r in rows]

    def moved(self, sequence: int) -> None:
        with self.database.writing() as connection:
            connection.execute("DELETE FROM moves WHERE sequence = ?", (sequence,))

    def backup(self, out: Path) -> None:
        """Write a consistent copy while others go on writing; images are not in it.

        Raises:
            StoreError, NotWritten: the copy cannot be made.
        """

        def write(new: Path) -> None:
            with self.database.reading() as connection:
                copy = sqlite3.connect(new)
                try:
                    connection.backup(copy)
                    copy.execute("PRAGMA journal_mode = DELETE")
                finally:
                    copy.close()

        write_atomically(out, write)

    @staticmethod
    def _by_key(connection: sqlite3.Connection, key: str) -> Stored | None:
        row = connection.execute(f"{_ROW} WHERE j.key = ?", (key,)).fetchone()
        return None if row is None else _stored(row)


_LONGEST = 500


def _said(text: str, what: str) -> str:
    text = text.strip()[:_LONGEST]
    if not text:
        raise UsageError(f"{what} is missing")
    return text


def _stored(row: Mapping[str, Any]) -> Stored:
    review = None
    if row["decision"] is not None:
        review = {
            "decision": row["decision"],
            "person": row["person"],
            "reason": row["reason"],
            "time": iso(row["reviewed"]),
        }
    return Stored(row["sequence"], json.loads(row["body"]), row["image"], review)


def event_of(stored: Stored) -> dict[str, Any]:
    """The event of a judgement: the row without the outlines of its defects, which are long."""
    row = stored.to_dict()
    del row["reviewed"]
    row["defects"] = [{**d, "contour": []} for d in row["defects"]]
    return {"type": "judgement", "timestamp": row["time"], "data": row}
