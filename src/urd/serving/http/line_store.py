"""A store that many threads write to: rows that wait together become one transaction."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from urd.serving.record import Record, Stored
from urd.serving.store import Addition, Move, Store, StoreError

_SLOW_SECONDS = 1.0
_REST_SECONDS = 5.0


class LineStore(Store):
    """As `Store`; but a flush to the disk serves all rows that wait, and a lock stops no line.

    If a write fails after a long wait, as it does while another program locks the file, the next
    writes fail at once for five seconds. Else each part would wait for its turn to fail.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        super().__init__(path, create=create)
        self._waiting: deque[tuple[Addition, Future[tuple[Stored, bool]]]] = deque()
        self._turn = threading.Lock()
        self._rests_until = 0.0
        self._failure = ""

    def add(
        self, record: Record, receivers: Sequence[str] = (), move: Move | None = None
    ) -> tuple[Stored, bool]:
        """As `Store.add`."""
        done: Future[tuple[Stored, bool]] = Future()
        self._waiting.append((Addition(record, tuple(receivers), move), done))
        with self._turn:  # whoever comes first writes for all that wait
            if not done.done():
                self._write([self._waiting.popleft() for _ in range(len(self._waiting))])
        return done.result()

    def _write(self, group: list[tuple[Addition, Future[tuple[Stored, bool]]]]) -> None:
        try:
            if time.monotonic() < self._rests_until:
                raise StoreError(self._failure)
            rows = self._add_all([addition for addition, _ in group])
        except Exception as error:
            for _, done in group:
                done.set_exception(error)
            return
        for (_, done), row in zip(group, rows, strict=True):
            done.set_result(row)

    def _add_all(self, additions: list[Addition]) -> list[tuple[Stored, bool]]:
        began = time.monotonic()
        try:
            return self.add_many(additions)
        except StoreError as error:
            if time.monotonic() - began > _SLOW_SECONDS:
                self._rests_until = time.monotonic() + _REST_SECONDS
                self._failure = str(error)
            raise
