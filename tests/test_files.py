"""Files are the old or the new ones; one call writes into a folder; nothing is left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from urd.errors import NotWritten, UsageError
from urd.system import files

HOLD = """
import sys, time
from pathlib import Path
from urd.system import files
with files.writing(Path(sys.argv[1])), files.temporary_folder(Path(sys.argv[1])) as place:
    (place / "half").write_bytes(bytes(1000))
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that writes into `tmp_path/out`."""
    command = [sys.executable, "-c", HOLD, tmp_path / "out"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_is_refused_and_disturbs_nothing(tmp_path, other):
    before = sorted((tmp_path / "out").rglob("*"))
    refused = pytest.raises(NotWritten, match=r"another call of urd is writing to .*/out")
    with refused, files.writing(tmp_path / "out"):
        pytest.fail("two writers")
    assert sorted((tmp_path / "out").rglob("*")) == before
    files.write_text(tmp_path / "out" / "a.txt", "a")  # looks for leftovers too
    assert {*before} < {*(tmp_path / "out").rglob("*")}


def test_a_killed_writer_leaves_an_empty_folder_that_the_next_one_cleans(tmp_path, other):
    out = tmp_path / "out"
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert [path for path in out.rglob("*") if path.name == "half"]
    files.refuse_existing(out, allowed=False, hint="")
    with files.writing(out):
        files.write_text(out / "a.txt", "a")
    assert [path.name for path in out.iterdir()] == ["a.txt"]


def test_leftovers_below_and_of_an_earlier_version_end(tmp_path):
    (tmp_path / "checkpoint" / ".abc.urd-part").mkdir(parents=True)
    (tmp_path / "checkpoint" / ".abc.urd-part" / "state").write_bytes(b"half")
    (tmp_path / ".12-34.urd-part").write_bytes(b"half")
    (tmp_path / "checkpoint" / "mine.txt").write_text("mine")
    with files.writing(tmp_path):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["checkpoint", "mine.txt"]


def test_a_call_inside_of_another_passes_and_another_thread_does_not(tmp_path):
    refused = []

    def second():
        try:
            with files.writing(tmp_path / "out"):
                pass
        except NotWritten as error:
            refused.append(str(error))

    with files.writing(tmp_path / "out"), files.writing(tmp_path / "out" / "..") as _:
        with files.writing(tmp_path / "other" / ".." / "out"):
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
        assert (tmp_path / "out").is_dir()
    assert len(refused) == 1
    assert not (tmp_path / "out").exists(), "it was made for the lock and stayed empty"


def test_who_waits_gets_the_folder(tmp_path):
    entered = threading.Event()

    def first():
        with files.writing(tmp_path):
            entered.set()
            threading.Event().wait(0.3)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    with files.writing(tmp_path, wait=20):
        pass
    thread.join()


def test_odd_places_are_one_line(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("loop", "nowhere", "file"):
        with pytest.raises(UsageError, match=f"{name} is a"), files.writing(tmp_path / name):
            pass
    with pytest.raises(NotWritten, match="cannot"), files.writing(tmp_path / "loop" / "out"):
        pass


@pytest.mark.skipif(os.getuid() == 0 and sys.platform != "linux", reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_is_one_line():
    with (
        pytest.raises(NotWritten, match="cannot write to /proc"),
        files.writing(files.Path("/proc")),
    ):
        pass


def test_files_that_belong_together_are_replaced_together(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"

    def full(new):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.write_together({a: lambda new: new.write_text("1"), b: lambda new: new.write_text("1")})
    with pytest.raises(NotWritten, match=r"cannot write .*/b: No space left on device"):
        files.write_together({a: lambda new: new.write_text("2"), b: full})
    assert (a.read_text(), b.read_text()) == ("1", "1")
    assert {*tmp_path.iterdir()} == {a, b}


def test_what_is_looked_for_is_absent_while_its_companions_change(tmp_path, monkeypatch):
    a, b = tmp_path / "a", tmp_path / "b"
    for path in (a, b):
        path.write_text("old")
    seen = []
    replace = files.Path.replace

    def watched(self, target):
        seen.append((target.name, b.exists()))
        return replace(self, target)

    monkeypatch.setattr(files.Path, "replace", watched)
    files.write_together({a: lambda new: new.write_text("2"), b: lambda new: new.write_text("2")})
    assert seen == [("a", False), ("b", False)]
