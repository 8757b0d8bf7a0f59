"""A watched folder: each file is one row, whatever is killed, replaced, broken or away."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from exporting import header, small_file
from PIL import Image

from urd.engines.facts import Facts
from urd.errors import NotWritten, UsageError
from urd.serving import after, file_judge, moving, wakeups
from urd.serving import watch as watching
from urd.serving.after import After, Then
from urd.serving.arrivals import Arrivals
from urd.serving.file_identity import identity_of, path_of, text_of
from urd.serving.file_reading import Changed, read_whole
from urd.serving.kept_images import KeptImages
from urd.serving.model_on_disk import ModelOnDisk
from urd.serving.part import Part
from urd.serving.readiness import Ready
from urd.serving.saying import Mentions
from urd.serving.seen_files import SeenFiles
from urd.serving.served_model import ServedModel
from urd.serving.station import Station
from urd.serving.store import Store, StoreError
from urd.serving.watch import Watch, WatchSettings
from urd.serving.watched_tree import WatchedTree
from urd.system.files import writing

pytest.importorskip("onnxruntime")
OK, NG = 60, 255  # grey values of parts
PATIENCE = 60.0  # seconds until a test gives up
posix = pytest.mark.skipif(os.name == "nt", reason="a name, a link or a pipe of POSIX")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """An exported file whose score is the brightness of the part: NG if it is white."""
    return small_file(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def model(file) -> ServedModel:
    return ServedModel.load("line", file)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """The lines on standard error."""
    lines: list[str] = []
    monkeypatch.setattr("urd.serving.saying.note", lines.append)
    return lines


@pytest.fixture
def inbox(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def picture(value: int = OK, seed: int = 0) -> bytes:
    """A PNG; another seed, another content of the same length."""
    noise = np.random.default_rng(0).integers(-8, 8, (40, 40, 1))
    pixels = np.clip(value + noise, 0, 255).astype(np.uint8).repeat(3, axis=2)
    if value == NG:
        pixels[0, 0] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    content = bytearray(out.getvalue())
    return bytes(content) + seed.to_bytes(4, "big")  # PNG ends before it


def put(path: Path, content: bytes | None = None, **facts) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(**facts) if content is None else content)
    return path


class Line:
    """Watches of one folder with one store, one after the other."""

    def __init__(self, folder: Path, model: ServedModel, store: Path | None = None) -> None:
        self.folder, self.model = folder, model
        self.store = Store(store or folder.parent / "line.sqlite")
        self.reported: list[dict] = []

    def watch(self, *, ready="rename", then="keep", part="stem", camera="warn", **settings):
        station = Station(
            self.store, "watch", KeptImages(self.store.images, "none"), ["hook"], camera
        )
        settings = WatchSettings(Ready.parse(ready), Then.parse(then), part=Part(part), **settings)
        report = self.reported.append
        return Watch(
            station,
            self.model,
            self.folder,
            settings,
            lambda o: report(json.loads(json.dumps(o.row))),
        )

    def once(self, **settings) -> list[dict]:
        """Judge what is complete, and give back the new rows."""
        before = len(self.rows())
        self.watch(once=True, **settings).run(threading.Event())
        return self.rows()[before:]

    def rows(self) -> list[dict]:
        return [row.to_dict() for row in self.store.rows()]

    def verdicts(self) -> dict[str, str]:
        return {Path(row["path"]).name: row["verdict"] for row in self.rows()}


@pytest.fixture
def line(inbox, model) -> Line:
    return Line(inbox, model)


class Running:
    """A watch in a thread."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self.watch.run(self.stop)
        except BaseException as error:
            self.error = error


def until(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def killed(*_, **__):
    raise KeyboardInterrupt("killed")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


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


# What becomes of files


def test_delete(line, inbox):
    put(inbox / "a.png")
    line.once(then="delete")
    assert names(inbox) == [] and len(line.rows()) == 1
    assert line.store.pending_moves() == []


def test_move_keeps_folders_and_never_overwrites(line, inbox, tmp_path):
    put(inbox / "a.png", seed=1)
    put(inbox / "sub" / "a.png", seed=2)
    put(tmp_path / "out" / "a.png", b"of others")
    line.once(then=f"move:{tmp_path / 'out'}")
    (number,) = [row["sequence"] for row in line.rows() if row["path"] == str(inbox / "a.png")]
    assert names(tmp_path / "out") == ["a.png", f"a_{number}.png", "sub", "sub/a.png"]
    assert (tmp_path / "out" / "a.png").read_bytes() == b"of others"
    assert (tmp_path / "out" / f"a_{number}.png").read_bytes() == picture(seed=1)
    assert names(inbox) == ["sub"]


def test_move_into_the_watched_folder_itself_judges_nothing_twice(line, inbox):
    put(inbox / "a.png")
    for _ in range(2):
        line.once(then=f"move:{inbox / 'out'}")
    assert len(line.rows()) == 1 and (inbox / "out" / "a.png").exists()


def test_the_same_file_again_is_moved_and_gets_no_new_row(line, inbox, said):
    for _ in range(2):
        os.utime(put(inbox / "a.png"), (1000, 1000))
        line.once(then=f"move:{inbox.parent / 'out'}")
    assert len(line.rows()) == 1 and names(inbox) == []
    assert names(inbox.parent / "out") == ["a.png"]
    assert ["is judgement 1 already" in text for text in said] == [True]


def test_move_to_another_file_system_copies(line, inbox, tmp_path, monkeypatch):
    put(inbox / "a.png")
    put(tmp_path / "out" / "a.png", b"of others")
    os.utime(inbox / "a.png", (1000, 1000))

    def link(*_, **__):
        raise OSError(errno.EXDEV, "other file system")

    monkeypatch.setattr(moving.os, "link", link)
    line.once(then=f"move:{tmp_path / 'out'}")
    assert names(inbox) == [] and names(tmp_path / "out") == ["a.png", "a_1.png"]
    assert (tmp_path / "out" / "a_1.png").stat().st_mtime == 1000
    assert (tmp_path / "out" / "a_1.png").read_bytes() == picture()


@posix
def test_the_file_behind_a_link_is_moved_as_a_file_and_its_origin_stays(line, inbox, tmp_path):
    put(tmp_path / "origin.png")
    (inbox / "a.png").symlink_to("../origin.png")
    line.once(then=f"move:{tmp_path / 'out'}")
    assert names(inbox) == [] and (tmp_path / "origin.png").exists()
    assert (tmp_path / "out" / "a.png").read_bytes() == picture()
    assert not (tmp_path / "out" / "a.png").is_symlink()


def test_what_cannot_be_judged_goes_aside_and_does_not_stop_the_others(line, inbox):
    put(inbox / "a.png", b"no image")
    put(inbox / "b.png", b"")
    put(inbox / "c.png", picture()[:200])
    put(inbox / "sub" / "c.heic", b"\0\0\0\x18ftypheic")
    put(inbox / "d.png")
    line.once()
    errors = [f"{name}.png" for name in "abc"] + ["c.heic"]
    assert line.verdicts() == {**dict.fromkeys(errors, "ERROR"), "d.png": "OK"}
    aside = inbox.parent / "line.sqlite.aside"
    assert names(aside) == ["a.png", "b.png", "c.png", "sub", "sub/c.heic"]
    assert names(inbox) == ["d.png", "sub"]
    assert line.once() == []


def test_an_error_is_not_deleted(line, inbox, tmp_path):
    put(inbox / "a.png", b"no image")
    line.once(then="delete", aside=tmp_path / "bad")
    assert names(tmp_path / "bad") == ["a.png"] and names(inbox) == []


def test_an_error_of_a_strict_camera_is_not_deleted(line, inbox):
    os.utime(put(inbox / "a.png"), (1, 1))
    os.utime(put(inbox / "b.png"), (2, 2))
    line.once(then="delete", camera="strict")
    assert line.verdicts() == {"a.png": "OK", "b.png": "ERROR"}
    assert names(inbox.parent / "line.sqlite.aside") == ["b.png"] and names(inbox) == []


def test_an_error_that_cannot_be_moved_stays_and_is_said_once(line, inbox, said, monkeypatch):
    put(inbox / "a.png", b"no image")
    put(inbox / "b.png", b"no image either")

    def rename(*_):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "rename", rename)
    assert len(line.once()) == 2
    assert names(inbox) == ["a.png", "b.png"]
    assert names(inbox.parent / "line.sqlite.aside") == []
    assert len([text for text in said if "Read-only" in text]) == 1
    assert line.store.pending_moves() == []
    assert line.once() == []  # neither judged nor moved again


def after_of(line, **settings) -> tuple[After, list[float]]:
    """With a clock to set."""
    now = [0.0]
    made = After(
        line.store,
        line.folder,
        Then(True, line.folder.parent / "out"),
        line.folder.parent / "aside",
        lambda _: None,
        clock=lambda: now[0],
        **settings,
    )
    return made, now


def judged_but_not_moved(line, monkeypatch, then: str | None = None) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(After, "apply", killed)
        with pytest.raises(KeyboardInterrupt):
            line.once(then=then or f"move:{line.folder.parent / 'out'}")


def test_a_folder_that_is_away_gets_the_file_later(line, inbox, said, monkeypatch):
    put(inbox / "a.png")
    judged_but_not_moved(line, monkeypatch)
    put(inbox.parent / "out", b"a file where the folder should be")
    rule, now = after_of(line)
    rule.resume()
    for _ in range(9):
        now[0] += 100.0
        rule.retry()
    assert len(rule) == 1 and len([text for text in said if "trying again" in text]) == 1
    (inbox.parent / "out").unlink()
    rule.retry()
    assert len(rule) == 1  # not yet due
    now[0] += 100.0
    rule.retry()
    assert len(rule) == 0 and names(inbox.parent / "out") == ["a.png"]
    assert said[-1] == "files can be moved again" and line.store.pending_moves() == []


def test_a_file_that_another_program_holds_is_moved_later(line, inbox, monkeypatch):
    put(inbox / "a.png")
    judged_but_not_moved(line, monkeypatch)
    rule, now = after_of(line)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(PermissionError(13, "held")))
        rule.resume()
        now[0] += 3.0
        rule.retry()
    assert names(inbox) == ["a.png"] and names(inbox.parent / "out") == []
    now[0] += 30.0
    rule.retry()
    assert names(inbox) == [] and names(inbox.parent / "out") == ["a.png"]


# Kills between row and move


def test_a_restart_repeats_only_the_move(line, inbox, monkeypatch):
    put(inbox / "a.png")
    judged_but_not_moved(line, monkeypatch)
    assert len(line.rows()) == 1 and names(inbox) == ["a.png"]
    monkeypatch.setattr(file_judge, "read_whole", killed)
    assert line.once(then="keep") == []
    assert names(inbox) == [] and names(inbox.parent / "out") == ["a.png"]
    assert line.store.pending_moves() == []


STEPS = {
    "before the other folder has it": (after, "place"),
    "before it leaves": (after.Path, "rename"),
    "after it has left": (After, "_finish"),
    "before the store knows": (Store, "moved"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("then", ["move", "delete"])
@pytest.mark.parametrize("linked", [True, False])
def test_a_kill_within_the_move(line, inbox, said, monkeypatch, step, then, linked):
    if (then, step) == ("delete", "before the other folder has it"):
        pytest.skip("no other folder")
    then = f"move:{inbox.parent / 'out'}" if then == "move" else then

    def link(*_, **__):
        raise OSError(errno.EPERM, "no hard links")

    put(inbox / "a.png")
    if not linked:
        monkeypatch.setattr(moving.os, "link", link)
    with monkeypatch.context() as patch:
        patch.setattr(*STEPS[step], killed)
        with pytest.raises(KeyboardInterrupt):
            line.once(then=then)
    for _ in range(2):
        assert line.once(then=then) == []
    assert len(line.rows()) == 1 and names(inbox) == []
    if then != "delete":
        assert names(inbox.parent / "out") == ["a.png"]
        assert (inbox.parent / "out" / "a.png").read_bytes() == picture()
    assert said == [] and line.store.pending_moves() == []


@pytest.mark.parametrize("same_time", [True, False])
def test_a_planned_move_is_not_done_to_a_new_file_of_that_name(
    line, inbox, said, monkeypatch, same_time
):
    path = put(inbox / "a.png", seed=1)
    before = path.stat()
    judged_but_not_moved(line, monkeypatch, then="delete")
    put(path, seed=2)
    if same_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (row,) = line.once(then="keep")
    assert path.read_bytes() == picture(seed=2) and row["verdict"] == "OK"
    assert ["changed since judgement 1" in text for text in said] == [True]
    assert line.store.pending_moves() == []


def test_a_planned_move_of_a_file_that_is_gone_is_dropped_and_said(line, inbox, said, monkeypatch):
    put(inbox / "a.png")
    judged_but_not_moved(line, monkeypatch)
    (inbox / "a.png").unlink()
    line.once()
    assert ["is gone" in text for text in said] == [True] and line.store.pending_moves() == []


def test_a_file_that_comes_in_the_middle_of_a_move_is_judged(line, inbox, monkeypatch, said):
    path = put(inbox / "a.png", seed=1)
    real = moving.place

    def place(source, target, number):
        placed = real(source, target, number)
        put(inbox / "new.part", seed=2).replace(path)  # the camera is quick
        return placed

    with monkeypatch.context() as patch:
        patch.setattr(after, "place", place)
        line.once(then=f"move:{inbox.parent / 'out'}")
    assert path.read_bytes() == picture(seed=2)
    (row,) = line.once(then="keep")
    assert row["sequence"] == 2
    assert (inbox.parent / "out" / "a.png").read_bytes() == picture(seed=1)


def test_a_move_of_another_folder_with_the_same_store_is_left_alone(
    line, inbox, tmp_path, model, monkeypatch
):
    put(inbox / "a.png")
    judged_but_not_moved(line, monkeypatch)
    put(tmp_path / "other" / "b.png", seed=1)
    Line(tmp_path / "other", model, line.store.path).once()
    assert len(line.store.pending_moves()) == 1 and names(inbox) == ["a.png"]


# When a file is complete


def arrivals_of(line, rule: str) -> tuple[Arrivals, list[float]]:
    now = [1000.0]
    tree = WatchedTree(line.folder, [], Mentions())
    seen = SeenFiles(line.store, line.folder)
    return Arrivals(tree, Ready.parse(rule), seen, lambda: now[0]), now


def complete(arrivals: Arrivals) -> list[str]:
    for _ in arrivals.scan():
        pass
    return [file.path.name for file in arrivals.complete(100)]


def test_rest_waits_until_a_file_no_longer_grows(line, inbox):
    arrivals, now = arrivals_of(line, "rest:500")
    content = picture()
    for part in (100, 1000, len(content)):
        put(inbox / "a.png", content[:part])
        assert complete(arrivals) == []
        now[0] += 0.4
    assert complete(arrivals) == [] and arrivals.wait() == pytest.approx(0.1)
    now[0] += 0.1
    assert complete(arrivals) == ["a.png"]


@pytest.mark.parametrize("written", [0, 4_000_000_000])
def test_clocks_that_are_wrong_or_set_back_do_not_matter(line, inbox, monkeypatch, written):
    times = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(times)))
    arrivals, now = arrivals_of(line, "rest:500")
    os.utime(put(inbox / "a.png"), (written, written))
    assert complete(arrivals) == []
    now[0] += 0.5
    assert complete(arrivals) == ["a.png"]
    assert len(line.once(ready="rest:20")) == 1
    assert line.once(ready="rest:20") == []


def test_rename_takes_a_file_at_once_and_leaves_unfinished_names(line, inbox):
    arrivals, _ = arrivals_of(line, "rename")
    for name in ("b.png.part", "c.tmp", "d.png.tmp", ".e.png", "f.png.done"):
        put(inbox / name)
    assert complete(arrivals) == []
    (inbox / "b.png.part").rename(inbox / "b.png")
    assert complete(arrivals) == ["b.png"]


def test_done_waits_for_its_marker(line, inbox):
    put(inbox / "a.png")
    put(inbox / "b.png", seed=1)
    put(inbox / "a.png.done", b"")
    (row,) = line.once(ready="done")
    assert row["part"] == "a" and names(inbox) == ["a.png", "a.png.done", "b.png"]


def test_a_marker_of_the_file_before_does_not_count(line, inbox):
    put(inbox / "a.png", seed=1)
    put(inbox / "a.png.done", b"")
    line.once(ready="done")
    put(inbox / "a.png", seed=2)
    assert line.once(ready="done") == []
    put(inbox / "a.png.done", b"")
    assert len(line.once(ready="done")) == 1


@pytest.mark.parametrize("then", ["delete", "move"])
def test_the_marker_goes_with_its_file(line, inbox, then):
    put(inbox / "a.png")
    put(inbox / "a.png.done", b"")
    line.once(ready="done", then=then if then == "delete" else f"move:{inbox.parent / 'out'}")
    assert names(inbox) == []


def test_files_that_wait_long_are_said_once(line, inbox, said):
    arrivals, now = arrivals_of(line, "done")
    put(inbox / "a.png")
    for _ in range(5):
        complete(arrivals)
        now[0] += 40.0
    assert ["no .done" in text for text in said] == [True]


def test_once_says_what_it_has_left(line, inbox, said):
    put(inbox / "a.png")
    assert line.once(ready="done") == []
    assert "not complete, so not judged" in said[-1]


def test_a_file_that_changes_while_it_is_read_waits_again(line, inbox, monkeypatch):
    path = put(inbox / "a.png", picture()[:1000])
    calls = []

    def read(file, identity, most):
        calls.append(identity)
        if len(calls) == 1:
            put(path)  # the writer goes on
        return read_whole(file, identity, most)

    monkeypatch.setattr(file_judge, "read_whole", read)
    with Running(line.watch(ready="rest:20", rescan=0.05)):
        until(lambda: len(line.rows()) == 1)
    assert line.verdicts() == {"a.png": "OK"} and len(calls) == 2


def test_read_whole_notices_each_change(inbox, monkeypatch):
    path = put(inbox / "a.png")
    identity = identity_of(path.stat())
    assert read_whole(path, identity, 10**6) == picture()
    path.write_bytes(picture()[:-1])
    with pytest.raises(Changed):
        read_whole(path, identity, 10**6)
    identity = identity_of(path.stat())
    put(inbox / "b.part", seed=3)
    real = os.fstat
    states = []

    def fstat(number):
        states.append(number)
        if len(states) == 2:
            (inbox / "b.part").replace(path)  # the open file is as it was, its name is not
        return real(number)

    monkeypatch.setattr("urd.serving.file_reading.os.fstat", fstat)
    with pytest.raises(Changed):
        read_whole(path, identity, 10**6)


# What is not an image, or not a usual file


def test_what_is_passed_over_is_said_once_for_each_kind(line, inbox, said):
    for name in ("a.txt", "b.txt", "c.csv", "LICENSE", ".hidden", "d.png.part"):
        put(inbox / name, b"text")
    put(inbox / "results" / "predictions.jsonl", b"")
    put(inbox / "results" / "a.png")
    put(inbox / "ground_truth" / "a.png")
    assert line.once() == []
    kinds = (".csv", ".txt", "without a suffix", "folder of earlier results", "folder of masks")
    assert len(said) == 5 and all(sum(kind in text for text in said) == 1 for kind in kinds)


@posix
def test_pipes_and_sockets_are_ignored_and_said_once(line, inbox, said):
    os.mkfifo(inbox / "a.png")
    os.mkfifo(inbox / "b.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(inbox / "s.png"))
        put(inbox / "c.png")
        line.once()
    assert line.verdicts() == {"c.png": "OK"}
    assert sorted("a pipe" in text for text in said) == [False, True]


@posix
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(inbox):
    path = put(inbox / "a.png")
    identity = identity_of(path.stat())
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Changed):
        read_whole(path, identity, 100)


@posix
def test_links_are_followed_and_loops_end(line, inbox, tmp_path, said):
    put(tmp_path / "other" / "a.png")
    (inbox / "linked").symlink_to(tmp_path / "other")
    (inbox / "loop").symlink_to(inbox)
    (tmp_path / "other" / "up").symlink_to(inbox)
    (inbox / "self.png").symlink_to("self.png")
    (inbox / "lost.png").symlink_to("nowhere")
    line.once()
    assert [row["path"] for row in line.rows()] == [str(inbox / "linked" / "a.png")]
    assert len([text for text in said if "folder above it" in text]) == 2
    assert len([text for text in said if "nowhere" in text and "link" in text]) == 2


def test_a_file_that_is_too_large_is_an_error(line, inbox, tmp_path):
    put(inbox / "a.png", bytes(10_000))
    (row,) = line.once(most_bytes=9_000)
    assert row["verdict"] == "ERROR" and "over the 9000 of --max-bytes" in row["error"]
    assert names(inbox) == []


def test_a_file_that_cannot_be_read_is_an_error_that_goes_when_it_can(line, inbox, monkeypatch):
    path = put(inbox / "a.png")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(file_judge, "read_whole", refuse)
        (row,) = line.once(aside=inbox.parent / "bad")
    assert row["verdict"] == "ERROR" and "Permission denied" in row["error"]
    (inbox.parent / "bad" / "a.png").rename(path)
    assert line.once()[0]["verdict"] == "OK"


def test_a_file_that_its_writer_still_holds_is_tried_again(line, inbox, monkeypatch):
    arrivals, now = arrivals_of(line, "rename")
    put(inbox / "a.png")
    complete(arrivals)
    (file,) = arrivals.complete(1)
    arrivals.again(file, 1.0)
    assert arrivals.complete(1) == [] and arrivals.wait() == 1.0
    now[0] += 1.0
    assert arrivals.complete(1)[0].tries == 1


def test_an_image_on_which_the_detector_fails_does_not_stop_the_others(
    line, inbox, model, monkeypatch
):
    put(inbox / "a.png", seed=1)
    put(inbox / "b.png", seed=2)
    real = model.judge

    def judge(images):
        if picture(seed=1) in images:
            raise RuntimeError("out of memory")
        return real(images)

    monkeypatch.setattr(model, "judge", judge)
    line.once()
    assert line.verdicts() == {"a.png": "ERROR", "b.png": "OK"}


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


# Settings and the command


@pytest.mark.parametrize(
    ("make", "text"),
    [
        *((Ready.parse, text) for text in ("", "rest:", "rest:0", "rest:x", "rest:1.5", "done:1")),
        (Ready.parse, "rest:99999999999"),
        *((Then.parse, text) for text in ("", "move", "move:", "copy:x")),
        *((Part, text) for text in ("", "(", "no group", "(a)(b)")),
    ],
)
def test_rules_that_are_none_are_refused(make, text):
    with pytest.raises(UsageError):
        make(text)


def test_parts():
    path = Path("in/SN0042_top.v2.png")
    assert Part("stem").of(path) == "SN0042_top.v2"
    assert Part("none").of(path) is None
    assert Part(r"SN(\d+)").of(path) == "0042"
    assert Part(r"X(\d+)").of(path) is None and Part("X|(a)").of(Path("X")) is None


def test_the_command_prints_a_line_for_each_image(urd, file, inbox, tmp_path):
    call = ["watch", file, inbox, "--store", tmp_path / "s.sqlite", "--ready", "rename", "--once"]
    put(inbox / "a.png")
    put(inbox / "b\nc.png", b"no image")
    code, out, error = urd(*call)
    assert code == 0 and len(out.splitlines()) == 2
    assert " OK " in out and str(inbox / "a.png") in out and "not an image" in out
    assert "watching" in error
    put(inbox / "d.png", seed=1)
    code, out, _ = urd(*call, "--json", "--name", "A", "--part", "none")
    row = json.loads(out)
    assert (row["sequence"], row["model"], row["part"]) == (3, "A", None)
    put(inbox / "e.png", seed=2)
    assert urd(*call, "--quiet")[:2] == (0, "")
    store = Store(tmp_path / "s.sqlite")
    assert store.counts() == {"OK": 3, "ERROR": 1} and store.newest().body["model"] == "model"


@pytest.mark.parametrize(
    "options",
    [
        ("--ready", "soon"),
        ("--then", "burn"),
        ("--part", "("),
        ("--mm-per-pixel", "0"),
        ("--device", "cuda"),
        ("--roi", "x"),
    ],
)
def test_wrong_options_are_refused(urd, file, inbox, tmp_path, options):
    store = tmp_path / "s.sqlite"
    code, _, error = urd("watch", file, inbox, "--store", store, "--once", *options)
    assert code == 2 and len(error.splitlines()) <= 2


def test_an_exported_file_needs_no_torch(file, inbox, tmp_path):
    put(inbox / "a.png")
    call = ["watch", str(file), str(inbox), "--store", str(tmp_path / "s.sqlite"), "--once"]
    code = (
        "import sys; from urd.cli import cli; cli.main(sys.argv[1:], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert " OK " in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_after_the_images_in_hand(file, inbox, tmp_path, number, code):
    put(inbox / "a.png")
    command = [sys.executable, "-m", "urd", "watch", file, inbox, "--ready", "rename"]
    process = subprocess.Popen(
        [*command, "--store", tmp_path / "s.sqlite"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert " OK " in process.stdout.readline()
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert ("urd: interrupted" in error) == (code == 130)
    assert names(inbox) == ["a.png"]  # no lock is left


@pytest.fixture
def with_regions(tmp_path) -> ServedModel:
    """A detector with one region of interest per image."""
    data = header().data.model_copy(update={"region_of_interest": "one per image"})
    facts = Facts(header(data=data).without_paths(), "float32")
    return ServedModel.load("line", small_file(tmp_path / "m.onnx", facts))


def test_a_detector_without_its_regions_is_refused(with_regions, inbox):
    with pytest.raises(UsageError, match="one region per image"):
        Line(inbox, with_regions).watch()


def test_regions_are_found_by_the_name_of_the_file(with_regions, inbox, tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[20:, 20:] = 255
    (tmp_path / "regions").mkdir()
    Image.fromarray(mask).save(tmp_path / "regions" / "a.png")
    with_regions.detector.inspect_in(str(tmp_path / "regions"))
    put(inbox / "a.png")
    put(inbox / "b.png")
    line = Line(inbox, with_regions)
    line.once()
    assert line.verdicts() == {"a.png": "OK", "b.png": "ERROR"}
    errors = [row["error"] for row in line.rows() if row["error"]]
    assert len(errors) == 1 and "no region of interest" in errors[0]
