"""The state of a line as other machines see it: the newest judgement, and never an older one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from urd.serving.record import Stored
from urd.serving.sender import Clock
from urd.serving.store import Store, StoreError

CODES = {"none": 0, "OK": 1, "REVIEW": 2, "NG": 3, "ERROR": 4}
LONGEST_IDLE = 10.0  # seconds
_LATE = 10.0  # seconds after the image came; then it is not for the part at the gate


@dataclass(frozen=True)
class State:
    """What a machine may act on.

    Attributes:
        name: none, OK, REVIEW, NG or ERROR.
        sequence: of the newest judgement of the store; it never falls.
        age: of its image, in seconds; `None`: the store is empty.
        row: the judgement that the state comes from; `None`: it comes from none.
        stalled: the judging loop does not turn.
        problem: why the state is ERROR although no judgement says so.
    """

    name: str
    sequence: int = 0
    age: float | None = None
    row: dict[str, Any] | None = None
    stalled: bool = False
    problem: str | None = None

    @property
    def code(self) -> int:
        return CODES[self.name]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, without the age."""
        names = ("verdict", "score", "calibrated", "part", "model", "time")
        row = self.row or {}
        return {
            "state": self.name,
            "code": self.code,
            "sequence": self.sequence,
            **{name: row.get(name) for name in names},
            "problem": self.problem,
        }

    def ended(self) -> State:
        """The state that is left behind when urd ends."""
        return State("none", self.sequence, self.age)


class LineState:
    """Follows the newest row of a store, whichever process wrote it.

    What was judged before `begin` is over: the state is none until the next judgement. It also
    begins anew after the judging loop stood still or the store failed.

    Args:
        store: a connection of its own. Then one cheap question tells whether anyone has written.
        idle_seconds: how long ago the judging loop turned.
        state_seconds: an older state becomes none; `None`: it stays.
        longest_idle: after so many seconds the judging loop is said to be stalled.
    """

    def __init__(
        self,
        store: Store,
        idle_seconds: Callable[[], float],
        state_seconds: float | None = None,
        clock: Clock | None = None,
        longest_idle: float = LONGEST_IDLE,
    ) -> None:
        self.store = store
        self.idle_seconds = idle_seconds
        self.state_seconds = state_seconds
        self.clock = clock or Clock()
        self.longest_idle = longest_idle
        self._lock = threading.Lock()  # `not_stored` comes from another thread
        self._failed: tuple[str, int | None] | None = None
        self._version: int | None = None  # of the data, when we last read them
        self._last = 0
        self._row: dict[str, Any] | None = None
        self._judged: float | None = None  # steady time at which the newest image came
        self._fresh = True

    def begin(self) -> None:
        """Begin anew: after a start, and after a connection was lost."""
        self._row, self._version, self._fresh = None, None, True

    def not_stored(self, problem: str) -> None:
        """A part was judged, but the store did not take it: ERROR until the next is stored."""
        newest: int | None
        try:
            newest = _sequence(self.store.newest())
        except StoreError:
            newest = None  # `look` will find out
        with self._lock:
            self._failed = (problem, newest)

    def look(self) -> State:
        """The state now. It never raises: a store that fails is an ERROR."""
        stalled, problem = self._stalled(), None
        try:
            self._follow()
        except StoreError as error:
            problem = str(error)
        if stalled:
            problem = "the judging loop does not turn"
        if problem:
            self.begin()
        if problem := problem or self._not_stored():
            return State("ERROR", self._last, self._age(), stalled=stalled, problem=problem)
        age = self._age()
        if self.state_seconds is not None and (age is None or age > self.state_seconds):
            self._row = None
        if self._row is None:
            return State("none", self._last, age)
        verdict = self._row["verdict"]
        return State(verdict if verdict in CODES else "ERROR", self._last, age, self._row)

    def _follow(self) -> None:
        """Take a row that is newer than all before."""
        version = self._data_version()
        if version == self._version:
            return
        newest = self.store.newest()
        sequence = _sequence(newest)
        if newest is not None and sequence > self._last:
            self._last = sequence
            judged = datetime.fromisoformat(newest.body["time"]).timestamp()
            # An image that waited belongs to a part that is no longer at the gate.
            age = max(0.0, self.clock.wall() - judged) + newest.body.get("waited_seconds", 0.0)
            self._judged = self.clock.steady() - age
            self._row = None if self._fresh or age > _LATE else newest.body
        self._version, self._fresh = version, False

    def _data_version(self) -> int:
        with self.store.database.reading() as connection:
            return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def _not_stored(self) -> str | None:
        with self._lock:
            if self._failed is None:
                return None
            problem, before = self._failed
            if before is not None and self._last > before:
                self._failed = None
                return None
            self._failed = (problem, self._last if before is None else before)
            return problem

    def _stalled(self) -> bool:
        try:
            return not self.idle_seconds() <= self.longest_idle
        except Exception:  # not to know it is no better
            return True

    def _age(self) -> float | None:
        return None if self._judged is None else self.clock.steady() - self._judged


def _sequence(row: Stored | None) -> int:
    return 0 if row is None else row.sequence
