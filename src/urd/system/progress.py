"""Progress and notes on standard error: a bar on a terminal, elsewhere a line now and then.

Silent until someone calls `show`; the command line does. With `urd -q` only warnings are left, with
`urd -v` there are details, too.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, TypeVar

Item = TypeVar("Item")
_FIRST_SECONDS, _PLAIN_SECONDS = 5.0, 15.0  # until the first line, and between two lines
_LATELY = 60.0  # seconds; the time left comes from the rate in them,
_STEPS = 8  # or in so many last steps, if these took longer: jobs of a suite differ


class Talk(IntEnum):
    """How much is written to standard error; errors and warnings always are."""

    QUIET = 0
    USUAL = 1
    VERBOSE = 2


_shown = False
_talk = Talk.USUAL


def show(enabled: bool = True) -> None:
    """Switch output on or off for this process."""
    global _shown
    _shown = enabled


def set_talk(level: Talk) -> None:
    """How much this process writes, if output is switched on."""
    global _talk
    _talk = level


def talk() -> Talk:
    return _talk


def _shows(level: Talk) -> bool:
    return _shown and _talk >= level


def warn(text: str) -> None:
    """Print a line about trouble; `urd -q` prints it, too."""
    _print(Talk.QUIET, text)


def note(text: str) -> None:
    """Print a line that the user should see before the work begins."""
    _print(Talk.USUAL, text)


def detail(text: str) -> None:
    """Print a line for those who ask for more: `urd -v`."""
    _print(Talk.VERBOSE, text)


def _print(level: Talk, text: str) -> None:
    if _shows(level):
        print(text, file=sys.stderr, flush=True)


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Pass items through and show the progress, if it is switched on."""
    if not _shows(Talk.USUAL):
        yield from items
        return
    progress = Progress(label, total)
    try:
        for count, item in enumerate(items, start=1):
            yield item
            progress.update(count)
    finally:
        progress.close()


class Progress:
    """One line of progress: label, bar, count, free text and time left."""

    def __init__(self, label: str, total: int, start: int = 0) -> None:
        self.label, self.total = label, total
        self._began = time.monotonic()
        self._next_line = self._began + _FIRST_SECONDS
        self._first = self._count = start
        self._text = ""
        self._samples = deque([(self._began, start)], maxlen=4096)
        on_terminal = _shows(Talk.USUAL) and sys.stderr.isatty()
        self._bar = _bar(label, total, start) if on_terminal else None

    def update(self, count: int, text: str | None = None) -> None:
        """Report that `count` of `total` are done; without `text` the last one stays."""
        self._text = text = self._text if text is None else text
        now = time.monotonic()
        left = f"{clock(self._seconds_left(now, count))} left"
        self._count = count
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=count, text=text, left=left)
        elif now >= self._next_line:
            self._next_line = now + _PLAIN_SECONDS
            note(" ".join(filter(None, [f"{self.label} {count}/{self.total}", text, left])))

    def _seconds_left(self, now: float, count: int) -> float:
        """From the rate of the last minute or the last steps; at first, of all since the start."""
        while len(self._samples) > 1:
            time_of_next, next_count = self._samples[1]
            if time_of_next >= now - _LATELY or count - next_count < _STEPS:
                break
            self._samples.popleft()
        then, before = self._samples[0]
        self._samples.append((now, count))
        return max(0.0, (now - then) / max(1, count - before) * (self.total - count))

    def extend(self, total: int) -> None:
        """There is more to do than was planned."""
        self.total = total
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        done, seconds = self._count - self._first, time.monotonic() - self._began
        detail(f"{self.label}: {done} in {seconds:.1f} s")


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(label: str, total: int, start: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(label, total=total, completed=start, text="", left="")
    bar.start()
    return bar
