"""A watched folder: each file is one row, whatever is killed, replaced, broken or away."""

from __future__ import annotations

import os
import shutil
import sys
import threading

import pytest
from watched import NG, Line, Running, killed, names, picture, posix, put, until

from urd.errors import NotWritten, UsageError
from urd.serving import file_judge, wakeups
from urd.serving import watch as watching
from urd.serving.file_identity import path_of, text_of
from urd.serving.model_on_disk import ModelOnDisk
from urd.serving.served_model import ServedModel
from urd.serving.store import Store, StoreError
from urd.system.files import writing

pytest_plugins = ["watched"]


# Each file one row


def test_each_file_is_one_row(line, inbox):
    put(inbox / "a.png")
    put(inbox / "b.png", value=NG)
    put(inbox / "sub" / "c.d.png", seed=1)
    rows = line.once()
    assert line.verdicts() == {"a.png": "OK", "b.png": "NG", "c.d.png": "OK"}
    assert {row["part"] for row in rows} == {"a", "b", "c.d"}
    assert all(row["source"] == "watch" and row["model"] == "line" for row in rows)
    assert line.reported == rows
    assert line.once() == [] and len(line.reported) == 3
    assert names(inbox) == ["a.png", "b.png", "sub", "sub/c.d.png"]


def test_events_are_in_the_outbox(line, inbox):
    put(inbox / "a.png")
    line.once()
    with line.store.database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone()[0] == 1


def test_a_restart_reads_no_file_again(line, inbox, monkeypatch):
    for index in range(20):
        put(inbox / f"{index}.png", seed=index)
    assert len(line.once()) == 20
    monkeypatch.setattr(file_judge, "read_whole", killed)
    assert line.once() == []


def test_new_content_under_an_old_name_is_a_new_row_even_with_equal_size_and_time(line, inbox):
    path = put(inbox / "a.png", seed=1)
    before = path.stat()
    line.once()
    put(path, seed=2)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    (row,) = line.once()
    assert row["content_sha256"] != line.rows()[0]["content_sha256"]


def test_the_same_content_written_again_later_is_a_new_row(line, inbox):
    path = put(inbox / "a.png")
    line.once()
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 5_000_000))
    assert len(line.once()) == 1


@posix
def test_a_file_that_only_gets_other_permissions_is_no_new_row(line, inbox):
    path = put(inbox / "a.png")
    line.once()
    path.chmod(0o600)
    assert line.once() == []


def test_an_old_file_that_comes_back_is_no_new_row(line, inbox):
    path = put(inbox / "a.png")
    line.once()
    path.rename(inbox.parent / "a.png")
    line.once()
    (inbox.parent / "a.png").rename(path)
    assert line.once() == []


def test_files_that_have_left_are_forgotten(line, inbox):
    for index in range(5):
        put(inbox / f"{index}.png", seed=index)
    line.once()
    for index in range(4):
        (inbox / f"{index}.png").unlink()
    line.once()
    with line.store.database.reading() as connection:
        (row,) = connection.execute("SELECT path FROM files").fetchall()
    assert os.fsdecode(row["path"]) == str(inbox / "4.png")


def test_the_oldest_files_come_first(line, inbox):
    for index, name in enumerate(["c.png", "a.png", "b.png"]):
        os.utime(put(inbox / name, seed=index), (1000 + index, 1000 + index))
    assert [row["part"] for row in line.once(batch_size=2)] == ["c", "a", "b"]


def test_thresholds_of_a_person_are_applied(line, inbox):
    line.store.change_thresholds("line", line.model.sha256, -2.0, -1.0, "Ana", "a test")
    put(inbox / "a.png")
    try:
        assert line.once()[0]["verdict"] == "NG"
    finally:
        line.model.set_thresholds(None)


@posix
def test_names_that_are_not_utf_8_are_judged_and_moved(line, inbox):
    name = os.fsdecode(b"\xff\xfe.png")
    put(inbox / name)
    (row,) = line.once(then=f"move:{inbox.parent / 'out'}")
    assert row["path"] == str(inbox / "\\udcff\\udcfe.png")
    assert row["part"] == "\\udcff\\udcfe"
    assert [path.name for path in (inbox.parent / "out").iterdir()] == [name]
    for path in (inbox / name, inbox / 'a"b'):
        assert path_of(text_of(path)) == path


# The loop


def test_files_are_judged_as_they_come_without_a_look_at_the_folder(line, inbox):
    pytest.importorskip("watchfiles")
    put(inbox / "first.png")
    with Running(line.watch(rescan=3600.0)):
        until(lambda: len(line.rows()) == 1)
        put(inbox / "a.png.part", seed=1).rename(inbox / "a.png")
        until(lambda: len(line.rows()) == 2)
        put(inbox / "sub" / "x.part", seed=2).rename(inbox / "sub" / "b.png")
        until(lambda: len(line.rows()) == 3)


@pytest.mark.parametrize("why", ["network", "no library", "no news"])
def test_files_are_found_by_looking_alone(line, inbox, said, monkeypatch, why):
    if why == "network":
        monkeypatch.setattr(watching, "on_network", lambda _: True)
    elif why == "no library":
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    else:
        monkeypatch.setattr(wakeups.Wakeups, "_listen", lambda self: None)
    with Running(line.watch(rescan=0.05)):
        put(inbox / "a.png.part").rename(inbox / "a.png")
        until(lambda: len(line.rows()) == 1)
    assert len([text for text in said if "--rescan" in text]) == (0 if why == "no news" else 1)


def test_the_loop_says_that_it_turns(line, inbox):
    watch = line.watch()
    with Running(watch):
        turns = set()
        until(lambda: turns.add(watch._turned) or len(turns) > 3)
    assert watch.idle_seconds() >= 0
    watch._turned -= 100.0
    assert watch.idle_seconds() > 99


def test_a_folder_that_vanishes_is_watched_again_when_it_is_back(line, inbox, said):
    put(inbox / "a.png")
    with Running(line.watch(rescan=0.05)):
        until(lambda: len(line.rows()) == 1)
        shutil.move(inbox, inbox.parent / "away")
        until(lambda: any("is not there" in text for text in said))
        (inbox.parent / "away" / "b.png").write_bytes(picture(seed=1))
        shutil.move(inbox.parent / "away", inbox)
        until(lambda: len(line.rows()) == 2)
        put(inbox / "c.png", seed=2)
        until(lambda: len(line.rows()) == 3)
        until(lambda: any("is back" in text for text in said))
        with pytest.raises(NotWritten, match="another urd watch"):
            line.watch().run(threading.Event())
    assert len([text for text in said if "is not there" in text]) == 1


@posix
def test_a_folder_that_comes_back_with_another_watch_ends_this_one(line, inbox, tmp_path, said):
    put(inbox / "a.png")
    (tmp_path / "new").mkdir()
    with (
        writing(tmp_path / "new", below=False),
        pytest.raises(NotWritten, match="another urd watch"),
        Running(line.watch(rescan=0.05)) as running,
    ):
        until(lambda: len(line.rows()) == 1)
        shutil.move(inbox, tmp_path / "old")
        until(lambda: any("is not there" in text for text in said))
        (tmp_path / "new").rename(inbox)
        until(lambda: running.error is not None)


def test_a_large_folder_is_looked_at_in_portions(line, inbox, monkeypatch):
    monkeypatch.setattr(watching, "_PORTION", 0.0)
    monkeypatch.setattr("urd.serving.arrivals._PORTION", 1)
    for index in range(10):
        put(inbox / str(index % 3) / f"{index}.png", seed=index)
    with Running(line.watch(rescan=0.05)):
        until(lambda: len(line.rows()) == 10)
        put(inbox / "new" / "x.png", seed=10)
        until(lambda: len(line.rows()) == 11)


def test_a_store_that_fails_and_works_again(line, inbox, said, monkeypatch):
    failing = threading.Event()
    failing.set()
    real = Store.add
    tries = []

    def add(*arguments):
        if failing.is_set():
            tries.append(1)
            raise StoreError("the disk is full")
        return real(*arguments)

    monkeypatch.setattr(Store, "add", add)
    problems = []
    put(inbox / "a.png")
    watch = line.watch(then=f"move:{inbox.parent / 'out'}", rescan=0.05)
    watch.not_stored = problems.append
    with Running(watch):
        until(lambda: len(tries) > 1)
        assert line.reported == [] and names(inbox)[-1] == "a.png"
        put(inbox / "b.png", seed=1)
        failing.clear()
        until(lambda: len(line.rows()) == 2)
        until(lambda: "the store works again" in said)
    assert problems[0] == "the disk is full"
    assert len([text for text in said if "the disk is full" in text]) == 1
    assert names(inbox.parent / "out") == ["a.png", "b.png"]


def test_once_ends_with_an_error_if_the_store_fails(line, inbox, monkeypatch):
    put(inbox / "a.png")

    def fail(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "add", fail)
    with pytest.raises(StoreError):
        line.once()


def test_a_second_watch_of_a_folder_is_refused(line, inbox, tmp_path, urd, file):
    put(inbox / "a.png")
    with Running(line.watch()):
        until(lambda: len(line.rows()) == 1)
        other = tmp_path / "other.sqlite"
        code, _, error = urd("watch", file, inbox, "--store", other, "--once")
        assert code == 1 and "another urd watch already watches" in error
    assert urd("watch", file, inbox, "--store", other, "--once")[0] == 0


@pytest.mark.parametrize(
    ("watched", "wanted", "words"),
    [(".", "deeper", "which contains"), ("deeper", ".", "which lies in")],
)
def test_a_watch_around_or_in_another_one_is_refused(
    line, inbox, tmp_path, urd, file, watched, wanted, words
):
    put(inbox / "deeper" / "a.png")
    put(inbox / "beside" / "b.png")
    call = ["watch", file, inbox / wanted, "--once", "--ready", "rename", "--store"]
    first = Line(inbox / watched, line.model, line.store.path)
    with Running(first.watch()):
        until(lambda: len(line.rows()) >= 1)
        code, _, error = urd(*call, line.store.path)
        assert code == 1 and words in error and "another urd watch with this store" in error
        beside = ["watch", file, inbox / "beside", "--once", "--store", tmp_path / "2.sqlite"]
        assert urd(*beside)[0] == 0  # another store is another line
    assert urd(*call, line.store.path)[0] == 0


def test_folders_beside_each_other_are_watched_with_one_store(line, inbox, tmp_path):
    """A name that begins like another one is no folder in it; what a kill left is of no effect."""
    other = tmp_path / "in2"
    other.mkdir()
    for folder in (inbox, other):
        put(folder / "a.png", seed=len(folder.name))
    line.store.set_fact("watched 0123456789ab", str(inbox / "killed").encode().hex())
    with Running(line.watch()), Running(Line(other, line.model, line.store.path).watch()):
        until(lambda: len(line.rows()) == 2)
    assert line.store.fact("watched 0123456789ab") is not None
    with line.store.database.reading() as connection:
        (left,) = connection.execute(
            "SELECT count(*) FROM facts WHERE name LIKE 'watched %'"
        ).fetchone()
    assert left == 1  # a watch that ends removes its own entry


def test_a_folder_without_write_permission_is_locked_beside_the_store(line, inbox, monkeypatch):
    real = watching.writing

    def writing(folder, **options):
        if folder == inbox:
            raise NotWritten("read-only")
        return real(folder, **options)

    monkeypatch.setattr(watching, "writing", writing)
    put(inbox / "a.png")
    with Running(line.watch()):
        until(lambda: len(line.rows()) == 1)
        with pytest.raises(NotWritten, match="another call"):
            line.once()
    with pytest.raises(NotWritten, match="read-only"):
        line.once(then="delete")


def test_folders_that_cannot_be_watched_are_refused(line, inbox, tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        Line(tmp_path / "missing", line.model).once()
    with pytest.raises(UsageError, match="another folder"):
        line.once(then=f"move:{inbox}")
    with pytest.raises(UsageError, match="is a file"):
        line.once(aside=put(tmp_path / "file"))


def test_a_model_that_is_replaced_is_said_once_and_not_used(tmp_path, file, said):
    path = tmp_path / "model.onnx"
    shutil.copy(file, path)
    now = [0.0]
    disk = ModelOnDisk(ServedModel.load("line", path), lambda: now[0])

    def look():
        now[0] += 10.0
        disk.look()

    look()
    path.unlink()
    look()
    assert said == []
    path.write_bytes(b"broken")
    look()
    look()
    assert ["restart urd watch" in text for text in said] == [True]
