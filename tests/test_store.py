"""The store: whole rows or none, each once, readable by other programs, never half open."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
import threading
from collections import namedtuple

import jsonschema_rs  # comes with schemathesis
import pytest
from lines import record

from urd.errors import UsageError
from urd.inspection.judgement import json_schema
from urd.serving import database
from urd.serving.outbox import Outbox, outbox_counts, parked, resend
from urd.serving.store import Move, Store, StoreError
from urd.serving.store_export import export_rows


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "line.sqlite")
    yield opened
    opened.close()


def test_a_row_has_the_judgement_and_its_circumstances(store):
    stored, new = store.add(record(part="A1", camera=("dark",)))
    assert new and stored.sequence == 1
    row = store.get(1).to_dict()
    assert row["verdict"] == "OK" and row["part"] == "A1" and row["camera"] == ["dark"]
    assert row["time"] == "2023-11-14T22:13:20.000Z" and row["milliseconds"] == 12.35
    assert row["thresholds"] == {"review": 0.6, "reject": 0.8, "change": None}
    assert row["reviewed"] is None


def test_a_row_fits_the_schema_of_judgements(store):
    store.add(record())
    jsonschema_rs.validate(json_schema(), store.get(1).to_dict())


def test_the_same_key_is_one_row_with_one_event(store):
    first, _ = store.add(record(key="k"), ["webhook"])
    second, new = store.add(record(key="k", verdict="NG"), ["webhook"])
    assert not new and second.sequence == first.sequence and second.body["verdict"] == "OK"
    assert len(Outbox(store, "webhook").due(1e12)) == 1


def test_rows_without_a_key_are_always_new(store):
    assert [store.add(record())[0].sequence for _ in range(3)] == [1, 2, 3]


def test_a_failed_call_stores_nothing(store):
    store.add(record(), move=Move("a.png", "b.png", "1"))
    with store.database.writing() as connection:  # the next row's move cannot be stored
        connection.execute("DROP TABLE moves")
    with pytest.raises(StoreError, match="no such table"):
        store.add(record(), ["webhook"], Move("c.png", None, "1"))
    assert store.counts() == {"OK": 1}
    assert Outbox(store, "webhook").due(1e12) == []


def test_rows_of_several_threads_and_processes_are_all_there(tmp_path):
    path = tmp_path / "line.sqlite"
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\nfrom lines import record\nfrom urd.serving.store import Store\n"
        f"store = Store(Path({str(path)!r}))\nfor _ in range(20): store.add(record())"
    )
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    store = Store(path)
    threads = [
        threading.Thread(target=lambda: [store.add(record()) for _ in range(20)]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0]
    assert store.counts() == {"OK": 80}
    assert [row.sequence for row in store.rows()] == list(range(1, 81))


def test_search(store):
    verdicts = ("OK", "NG", "REVIEW", "ERROR", "NG")
    for index, verdict in enumerate(verdicts):
        store.add(record(verdict, part=f"P{index}", time=1000.0 + index, model=f"m{index % 2}"))

    def found(**wanted):
        return [row.sequence for row in store.search(**wanted)]

    assert found() == [5, 4, 3, 2, 1]
    assert found(verdict="NG") == [5, 2]
    assert found(part="P") == [5, 4, 3, 2, 1]
    assert found(part="P3") == [4]
    assert found(part="%") == []
    assert found(since=1001, until=1003) == [4, 3, 2]
    assert found(before=3) == [2, 1]
    assert found(after=3) == [5, 4]
    assert found(limit=2) == [5, 4]
    assert found(model="m1") == [4, 2]
    assert found(limit=-1) == []
    assert store.counts(since=1002) == {"ERROR": 1, "NG": 1, "REVIEW": 1}


def test_the_scores_of_a_model(store):
    for score in (0.1, 0.2, None, 0.4):
        store.add(record("OK" if score else "ERROR", score))
    store.add(record(score=0.9, model_sha256="1" * 64))
    assert store.scores("0" * 64, last=2) == [(2, 0.2), (4, 0.4)]


def test_reviews(store):
    store.add(record("NG"))
    store.add(record("OK"))
    store.review(1, "accept", "Ana", "only dust")
    row = store.review(1, "reject", " Bo ", "")
    assert row.review["decision"] == "reject" and row.review["person"] == "Bo"
    assert row.to_dict()["reviewed"]["decision"] == "reject"
    for wrong in [(2, "accept", "Ana"), (9, "accept", "Ana"), (1, "maybe", "Ana")]:
        with pytest.raises(UsageError):
            store.review(*wrong)
    with pytest.raises(UsageError, match="name is missing"):
        store.review(1, "accept", "  ")


def test_changes_of_thresholds_belong_to_one_model_file(store):
    sha = "0" * 64
    assert store.threshold_change(sha) is None
    store.change_thresholds("line", sha, 0.5, 0.7, "Ana", "too strict")
    number = store.change_thresholds("line", sha, None, None, "Bo", "back")
    assert store.threshold_change(sha)["id"] == number
    assert store.threshold_change(sha)["review"] is None
    assert [change["person"] for change in store.threshold_changes(sha)] == ["Bo", "Ana"]
    assert store.threshold_change("1" * 64) is None
    with pytest.raises(UsageError, match="the reason is missing"):
        store.change_thresholds("line", sha, 0.5, 0.7, "Ana", "")


def test_moves_stay_until_they_are_done(store):
    store.add(record(), move=Move("a.png", "done/a.png", "7"))
    assert store.pending_moves() == [Move("a.png", "done/a.png", "7", 1)]
    store.moved(1)
    assert store.pending_moves() == []


def test_the_outbox_gives_events_in_order_and_parks_refused_ones(store):
    for _ in range(3):
        store.add(record(), ["a", "b"])
    outbox = Outbox(store, "a")
    first, second, third = outbox.due(0.0)
    assert [d.sequence for d in (first, second, third)] == [1, 2, 3]
    assert json.loads(first.body)["data"]["sequence"] == 1
    outbox.sent(first)
    outbox.again(second, 50.0, "no answer\nat all")
    outbox.park(third, "410 gone")
    assert outbox.due(49.0) == []
    assert [d.attempts for d in outbox.due(50.0)] == [1]
    assert outbox_counts(store)["a"]["waiting"] == 1 and outbox_counts(store)["b"]["waiting"] == 3
    assert [d.error for d in parked(store)] == ["410 gone"]
    assert resend(store, "a") == 1 and parked(store) == []


def test_a_backup_is_a_store(store, tmp_path):
    store.add(record("NG"))
    store.backup(tmp_path / "copy.sqlite")
    copy = Store(tmp_path / "copy.sqlite", create=False)
    assert copy.counts() == {"NG": 1}
    copy.close()


def test_what_is_no_store_is_refused(tmp_path):
    garbage, other, newer = (tmp_path / f"{name}.sqlite" for name in ("garbage", "other", "newer"))
    garbage.write_bytes(b"not a database" * 100)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE things (a)")
    Store(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    for path, message in (
        (garbage, "not a database"),
        (other, "another program"),
        (newer, "comes from a newer urd"),
    ):
        with pytest.raises(StoreError, match=message):
            Store(path)
    assert garbage.read_bytes().startswith(b"not a database")
    with pytest.raises(UsageError, match="is a folder"):
        Store(tmp_path)
    with pytest.raises(UsageError, match="no store at"):
        Store(tmp_path / "absent.sqlite", create=False)
    assert not (tmp_path / "absent.sqlite").exists()


def test_a_store_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    part = namedtuple("part", "mountpoint fstype")
    parts = [part("/", "ext4"), part(str(tmp_path / "share"), "cifs")]
    monkeypatch.setattr(database.psutil, "disk_partitions", lambda all: parts)
    (tmp_path / "share").mkdir()
    with pytest.raises(UsageError, match=r"network file system \(cifs\)"):
        Store(tmp_path / "share" / "line.sqlite")
    Store(tmp_path / "shared.sqlite").close()  # only begins like the share's name


def test_a_locked_store_fails_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_WAIT_MS", 20)
    store = Store(tmp_path / "line.sqlite")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="database is locked"):
        store.add(record())
    other.execute("ROLLBACK")
    assert store.add(record())[0].sequence == 1
    other.close()


def test_a_full_disk_stores_nothing_and_the_next_row_works(store):
    with store.database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    added = []
    with pytest.raises(StoreError, match="full"):
        for _ in range(100):
            added.append(store.add(record(part="x" * 200)))
    assert sum(store.counts().values()) == len(added)
    with store.database.reading() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    assert store.add(record())[1]


def test_export_as_csv_and_jsonl(store, tmp_path):
    store.add(record("NG", part="=1+1", time=1000.0))
    store.add(record("ERROR", None, time=2000.0))
    store.review(1, "accept", "Ana")
    assert export_rows(store, tmp_path / "all.csv") == 2
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["NG", "ERROR"]
    assert rows[0]["part"] == "'=1+1" and rows[0]["decision"] == "accept"
    assert rows[0]["review_threshold"] == "0.6"
    assert export_rows(store, tmp_path / "late.jsonl", since=1500) == 1
    (line,) = (tmp_path / "late.jsonl").read_text().splitlines()
    assert json.loads(line)["sequence"] == 2
    with pytest.raises(UsageError, match=r"must end in .csv or .jsonl"):
        export_rows(store, tmp_path / "all.txt")


def test_the_verb(urd, tmp_path):
    store = Store(tmp_path / "line.sqlite")
    store.add(record(time=1000.0), ["hook"])
    path = store.path
    code, out, _ = urd(
        "store", "export", path, "--out", tmp_path / "a.csv", "--since", "1970-01-01"
    )
    assert code == 0 and out.startswith("1 judgements")
    code, _, error = urd("store", "export", path, "--out", tmp_path / "a.csv", "--since", "today")
    assert code == 2 and "is no time" in error
    assert urd("store", "backup", path, tmp_path / "b.sqlite")[0] == 0
    code, _, error = urd("store", "backup", path, tmp_path / "b.sqlite")
    assert code == 2 and "--overwrite" in error
    assert urd("store", "events", path)[:2] == (0, "hook: 1 wait, 0 refused\n")
    Outbox(store, "hook").park(Outbox(store, "hook").due(0.0)[0], "410")
    code, out, _ = urd("store", "events", path)
    assert code == 1 and "refused: judgement 1 for hook: 410" in out
    assert urd("store", "events", path, "--resend")[0] == 0
    assert urd("store", "prune", path)[0] == 2
    code, _, error = urd("store", "events", tmp_path / "no.sqlite")
    assert code == 2 and "no store at" in error


def test_a_store_that_was_removed_or_replaced_takes_no_row(store, tmp_path):
    """SQLite would go on writing to a file without a name, and all rows would be lost."""
    store.add(record())
    store.path.rename(tmp_path / "moved.sqlite")
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.add(record())
    Store(store.path).close()
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.add(record())
