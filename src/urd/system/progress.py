"""Progress on standard error: a bar on a terminal, elsewhere a line every 15 seconds.

Silent until someone calls `show`; the command line does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
_PLAIN_SECONDS = 15.0
_shown = False


def show(enabled: bool = True) -> None:
    """Switch progress output on or off for this process."""
    global _shown
    _shown = enabled


def note(text: str) -> None:
    """Print a line that the user should see before the work begins."""
    if _shown:
        print(text, file=sys.stderr, flush=True)


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Pass items through and show the progress, if it is switched on."""
    if not _shown:
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
        self.label, self.total, self.first = label, total, start
        self.began = self.last_line = time.monotonic()
        self._bar = _bar(label, total, start) if _shown and sys.stderr.isatty() else None

    def update(self, count: int, text: str = "") -> None:
        """Report that `count` of `total` are done."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=count, text=text)
            return
        now = time.monotonic()
        if _shown and (now - self.last_line > _PLAIN_SECONDS):
            self.last_line = now
            left = (now - self.began) / max(1, count - self.first) * (self.total - count)
            print(
                f"{self.label} {count}/{self.total} {text} {clock(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def extend(self, total: int) -> None:
        """There is more to do than was planned."""
        self.total = total
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(label: str, total: int, start: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(label, total=total, completed=start, text="")
    bar.start()
    return bar
