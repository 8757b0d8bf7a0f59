"""The store of a server: rows that wait become one transaction."""

from __future__ import annotations

import sqlite3

import pytest
from web import until

from urd.serving.http.line_store import LineStore
from urd.serving.store import StoreError


def test_rows_that_wait_share_a_transaction_and_its_failure(tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    from lines import record

    store = LineStore(tmp_path / "line.sqlite")
    groups = []
    real = LineStore.add_many

    def noted(self, additions):
        groups.append(len(additions))
        return real(self, additions)

    monkeypatch.setattr(LineStore, "add_many", noted)
    with ThreadPoolExecutor(8) as pool:
        with store._turn:  # as if a write were going on
            adding = [pool.submit(store.add, record(key=f"k{n % 6}")) for n in range(8)]
            until(lambda: len(store._waiting) == 8)
        stored = [job.result() for job in adding]
    assert groups == [8]
    assert sorted(row.sequence for row, new in stored if new) == [1, 2, 3, 4, 5, 6]
    assert sum(not new for _, new in stored) == 2
    store.close()
    with pytest.raises(StoreError):
        store.add(record())


def test_a_locked_store_costs_one_wait_not_one_for_each_part(tmp_path, monkeypatch):
    from lines import record

    from urd.serving.http import line_store

    store = LineStore(tmp_path / "line.sqlite")
    store.database._connection.execute("PRAGMA busy_timeout = 1")
    monkeypatch.setattr(line_store, "_SLOW_SECONDS", 0.0)
    other = sqlite3.connect(tmp_path / "line.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.add(record())
    other.execute("ROLLBACK")
    with pytest.raises(StoreError, match="locked"):
        store.add(record())  # it rests, so it has not tried
    store._rests_until = 0.0
    assert store.add(record())[1]
    other.close()
    store.close()
