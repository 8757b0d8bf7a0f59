"""Which files are judged, and when one is complete."""

from __future__ import annotations

import os
import socket
import time

import pytest
from watched import Running, names, picture, posix, put, until

from urd.serving import file_judge
from urd.serving.arrivals import Arrivals
from urd.serving.file_identity import identity_of
from urd.serving.file_reading import Changed, read_whole
from urd.serving.readiness import Ready
from urd.serving.saying import Mentions
from urd.serving.seen_files import SeenFiles
from urd.serving.watched_tree import WatchedTree

pytest_plugins = ["watched"]


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
    assert ["no .done" in text for text in said] == [False, True]


@pytest.mark.parametrize(
    ("marker", "hint"), [("a.done", "a.done does not count"), ("a.ok", None), (None, None)]
)
def test_a_marker_with_a_wrong_name_is_said_once(line, inbox, said, marker, hint):
    arrivals, now = arrivals_of(line, "done")
    put(inbox / "a.png")
    put(inbox / "b.png")
    if marker is not None:
        put(inbox / marker, b"")
    for seconds in (0.0, 9.0, 2.0, 2.0):
        now[0] += seconds
        assert complete(arrivals) == []
    (text,) = [text for text in said if "wait for their marker" in text]
    assert text.startswith("2 files wait") and "a.png.done lies beside it" in text
    assert text.endswith(hint or "lies beside it")


def test_a_marker_that_comes_in_time_is_not_missed(line, inbox, said):
    arrivals, now = arrivals_of(line, "done")
    put(inbox / "a.png")
    complete(arrivals)
    now[0] += 11.0
    put(inbox / "a.png.done", b"")
    assert complete(arrivals) == ["a.png"] and said == []


def test_once_says_what_it_has_left(line, inbox, said):
    put(inbox / "a.png")
    assert line.once(ready="done") == []
    assert "not complete (no .done), so not judged" in said[-1]


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
