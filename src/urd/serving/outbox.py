"""The outbox of a store: events that receivers have not yet taken."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from urd.errors import one_line
from urd.serving.store import Delivery, Store

LONGEST_DELAY = 3600.0  # seconds
_EVENT = "SELECT id, sequence, receiver, body, attempts, error FROM outbox"


class Outbox:
    """Events of a store for one receiver, in the order of their sequence."""

    def __init__(self, store: Store, receiver: str) -> None:
        self.store = store
        self.receiver = receiver

    def due(self, now: float, limit: int = 50) -> list[Delivery]:
        """The first events, as far as they may be sent now; refused ones are not among them.

        An event that has to wait holds up those after it, so that the order stays.

        Args:
            now: seconds since 1970.
        """
        with self.store.database.reading() as connection:
            rows = connection.execute(
                "SELECT id, sequence, receiver, body, attempts, error, due FROM outbox "
                "WHERE receiver = ? AND parked = 0 ORDER BY sequence LIMIT ?",
                (self.receiver, limit),
            ).fetchall()
        ready = takewhile(lambda row: _wait(row["due"], now) == 0, map(dict, rows))
        return [Delivery(**{k: v for k, v in row.items() if k != "due"}) for row in ready]

    def wait(self, now: float) -> float | None:
        """Seconds until the first event may be sent; `None`: there are no events."""
        with self.store.database.reading() as connection:
            row = connection.execute(
                "SELECT due FROM outbox WHERE receiver = ? AND parked = 0 "
                "ORDER BY sequence LIMIT 1",
                (self.receiver,),
            ).fetchone()
        return None if row is None else _wait(row["due"], now)

    def sent(self, *deliveries: Delivery) -> None:
        """Remove events that the receiver has taken."""
        with self.store.database.writing() as connection:
            connection.executemany("DELETE FROM outbox WHERE id = ?", [(d.id,) for d in deliveries])

    def again(self, delivery: Delivery, due: float, error: str) -> None:
        """Try an event again at `due`, in seconds since 1970: at most an hour from now."""
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


def _wait(due: float, now: float) -> float:
    """Nobody asks for more than an hour: a longer wait means that the clock was set back."""
    return due - now if 0 < due - now <= LONGEST_DELAY else 0.0


def outbox_counts(store: Store) -> dict[str, dict[str, Any]]:
    """For each receiver with events: how many wait, how many are parked, and the last error.

    The error is that of the event that is sent next; without one, of the newest parked event.
    """
    with store.database.reading() as connection:
        rows = connection.execute(
            "SELECT receiver, sum(parked = 0) AS waiting, sum(parked) AS parked FROM outbox "
            "GROUP BY receiver"
        ).fetchall()
        counts = {row["receiver"]: dict(row) for row in rows}
        for receiver, count in counts.items():
            del count["receiver"]
            next_one, refused = (
                connection.execute(
                    f"SELECT error FROM outbox WHERE receiver = ? AND parked = {parked} "
                    f"ORDER BY sequence {order} LIMIT 1",
                    (receiver,),
                ).fetchone()
                for parked, order in ((0, "ASC"), (1, "DESC"))
            )
            errors = [row["error"] for row in (next_one, refused) if row is not None]
            count["error"] = next(filter(None, errors), None)
    return counts


def parked(store: Store, limit: int = 100) -> list[Delivery]:
    """Events that were refused for good, the newest first."""
    with store.database.reading() as connection:
        rows = connection.execute(
            f"{_EVENT} WHERE parked = 1 ORDER BY sequence DESC LIMIT ?", (limit,)
        ).fetchall()
    return [Delivery(**dict(row)) for row in rows]


def resend(store: Store, receiver: str | None = None) -> int:
    """Send parked events once more, of one receiver or of all; returns how many.

    They keep their ids. They go before events with a larger sequence.
    """
    with store.database.writing() as connection:
        cursor = connection.execute(
            "UPDATE outbox SET parked = 0, due = 0, attempts = 0, error = NULL WHERE parked = 1 "
            "AND (? IS NULL OR receiver = ?)",
            (receiver, receiver),
        )
    return cursor.rowcount


def discard(store: Store, receiver: str) -> int:
    """Delete all events for a receiver that is no longer there; returns how many."""
    with store.database.writing() as connection:
        cursor = connection.execute("DELETE FROM outbox WHERE receiver = ?", (receiver,))
    return cursor.rowcount
