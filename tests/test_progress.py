"""Progress on standard error: silent until asked for, a line now and then where no bar is seen."""

from __future__ import annotations

import pytest

from urd.system import progress
from urd.system.progress import Progress, Talk, clock, note, track, warn


def test_silent_unless_asked_for(capsys):
    note("a line")
    assert list(track(range(3), "Counting", 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_note_goes_to_standard_error(shown, capsys):
    note("a line")
    assert capsys.readouterr() == ("", "a line\n")


def test_a_plain_line_tells_count_and_time_left(shown, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = Progress("Training", 100, start=20)
    now[0] = 4.0
    bar.update(22)  # too early for a line
    now[0] = 10.0
    bar.update(30)  # the first line comes soon
    now[0] = 20.0
    bar.update(35)  # and the next one 15 seconds later
    now[0] = 40.0
    bar.update(40, "loss 0.5")
    bar.close()
    # 10 of them took 10 seconds, so 70 more take 70; then 20 took 40, so 60 more take 120.
    lines = "Training 30/100 1:10 left\nTraining 40/100 loss 0.5 2:00 left\n"
    assert capsys.readouterr().err == lines


def test_the_time_left_comes_from_the_last_minute(shown, capsys, monkeypatch):
    """The first iterations are slow: caches are empty."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = Progress("Training", 1000)
    for count, time in ((1, 100.0), (2, 200.0), (32, 230.0), (62, 260.0), (92, 290.0)):
        now[0] = time
        bar.update(count)
    assert capsys.readouterr().err.splitlines()[-1] == "Training 92/1000 15:08 left"


def test_the_time_left_of_long_steps_comes_from_the_last_eight(shown, capsys, monkeypatch):
    """A quick job of a suite among slow ones does not halve the time left."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = Progress("Suite", 20)
    for count in range(1, 11):
        now[0] += 100.0 if count % 2 else 400.0
        bar.update(count)
    assert capsys.readouterr().err.splitlines()[-1] == "Suite 10/20 41:40 left"


def test_the_bar_shows_the_time_left_from_the_first_step_on(shown, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = Progress("Training", 10)
    now[0] = 2.0
    bar.update(1)
    (task,) = bar._bar.tasks
    bar.close()
    assert task.fields["left"] == "0:18 left"


def test_quiet_keeps_warnings_and_verbose_adds_times(shown, capsys):
    said = {}
    for level in Talk:
        progress.set_talk(level)
        warn("trouble")
        note("news")
        assert list(track(range(3), "Counting", 3)) == [0, 1, 2]
        said[level] = capsys.readouterr().err.splitlines()
    assert said[Talk.QUIET] == ["trouble"]
    assert said[Talk.USUAL] == ["trouble", "news"]
    assert said[Talk.VERBOSE][:2] == ["trouble", "news"]
    assert said[Talk.VERBOSE][2].startswith("Counting: 3 in 0.")


def test_items_pass_and_an_error_ends_the_bar(shown):
    items = track(iter([1, 2]), "Counting", 2)
    assert next(items) == 1
    items.close()
    assert list(track([], "Counting", 0)) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3723, "1:02:03")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text
