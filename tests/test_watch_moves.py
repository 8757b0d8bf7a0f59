"""What becomes of a judged file: kept, moved, deleted or aside, once, whatever is killed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from watched import Line, killed, names, picture, posix, put

from urd.serving import after, file_judge, moving
from urd.serving.after import After, Then
from urd.serving.store import Store

pytest_plugins = ["watched"]


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
