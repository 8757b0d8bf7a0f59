"""Progress on standard error: silent until asked for, a line now and then where no bar is seen."""

from __future__ import annotations

import pytest

from urd.system import progress
from urd.system.progress import Progress, clock, note, track


@pytest.fixture
def shown():
    progress.show()
    yield
    progress.show(False)


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
    now[0] = 10.0
    bar.update(30)  # too early for a line
    now[0] = 40.0
    bar.update(40, "loss 0.5")
    bar.close()
    # 20 of them took 40 seconds, so 60 more take 120.
    assert capsys.readouterr().err == "Training 40/100 loss 0.5 2:00 left\n"


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
