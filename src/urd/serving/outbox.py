"""The outbox of a store: events that receivers have not yet taken."""

from __future__ import annotations

from typing import Any

from urd.errors import one_line
from urd.serving.store import Delivery, Store


class Outbox:
    """Events of a store for one receiver, in the order of their sequence."""

    def __init__(self, store: Store, receiver: str) -> None:
        self.store = store
        self.receiver = receiver

    def due(self, now: float, limit: int = 50) -> list[Delivery]:
        """Events to send now. Those that a receiver refused for good are not among them."""
        with self.store.database.reading() as connection:
            rows = connection.execute(
                "SELECT id, sequence, receiver, body, attempts, error FROM outbox "
                "WHERE receiver = ? AND parked = 0 AND due <= ? ORDER BY sequence LIMIT ?",
                (self.receiver, now, limit),
            ).fetchall()
        return [Delivery(**dict(row)) for row in rows]

    def sent(self, delivery: Delivery) -> None:
        with self.store.database.writing() as connection:
            connection.execute("DELETE FROM outbox WHERE id = ?", (delivery.id,))

    def again(self, delivery: Delivery, due: float, error: str) -> None:
        """Try an event again at `due`, in seconds since 1970."""
        with self.store.database.writing() as connection:
            connection.execute(
                "UPDATE outbox SET attempts = attempts + 1, due = ?, error = ? WHERE id = ?",
                (due, one_line(error), delivery.id),
            )

    def park(self, delivery: Delivery, error: str) -> None:
        """Put aside an event that the receiver refuses for good; it stays in the store."""
        with self.store.database.writing() as connection:
            connection.execute(
                "UPDATE outbox SET attempts = attempts + 1, parked = 1, error = ? WHERE id = ?",
                (one_line(error), delivery.id),
            )


def outbox_counts(store: Store) -> dict[str, dict[str, Any]]:
    """For each receiver with events: how many wait, how many are parked, and the last error."""
    with store.database.reading() as connection:
        rows = connection.execute(
            "SELECT receiver, sum(parked = 0) AS waiting, sum(parked) AS parked, max(error) AS "
            "error FROM outbox GROUP BY receiver"
        ).fetchall()
    return {
        row["receiver"]: {
            "waiting": row["waiting"],
            "parked": row["parked"],
            "error": row["error"],
        }
        for row in rows
    }


def parked(store: Store, limit: int = 100) -> list[Delivery]:
    """Events that were refused for good, the newest first."""
    with store.database.reading() as connection:
        rows = connection.execute(
            "SELECT id, sequence, receiver, body, attempts, error FROM outbox WHERE parked = 1 "
            "ORDER BY sequence DESC LIMIT ?",
            (limit,),
        ).fetchall()
    return [Delivery(**dict(row)) for row in rows]


def resend(store: Store, receiver: str | None = None) -> int:
    """Send parked events once more, of one receiver or of all; returns how many."""
    with store.database.writing() as connection:
        cursor = connection.execute(
            "UPDATE outbox SET parked = 0, due = 0, attempts = 0 WHERE parked = 1 "
            "AND (? IS NULL OR receiver = ?)",
            (receiver, receiver),
        )
    return cursor.rowcount
