"""Say a trouble once, not at every turn of a loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from urd.system.progress import warn

_MOST = 200  # things to remember
_LONGEST = 30.0  # seconds between two tries


def say(text: str) -> None:
    """Print a line on standard error; a full disk behind it must not end a watch."""
    with suppress(OSError):
        warn(text)


class Mentions:
    """Lines that are said once each. Of very many, only the first are said."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def once(self, what: str, text: str) -> None:
        """Say `text`, unless something was said about `what` before."""
        if what in self._said or len(self._said) > _MOST:
            return
        self._said.add(what)
        say(text if len(self._said) <= _MOST else "further notes of this kind are left out")

    def over(self, what: str, text: str) -> None:
        """Say that a trouble is over, if it was said."""
        if what in self._said:
            self._said.remove(what)
            say(text)


class Counted:
    """A trouble that comes again and again: said at once, then now and then with its number.

    Args:
        pause: seconds between two lines.

    Attributes:
        count: how often it came.
    """

    def __init__(self, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._pause = pause
        self._clock = clock
        self._said = 0
        self._next: float | None = None
        self._text = ""

    def add(self, text: str) -> None:
        """It has come once more."""
        self.count += 1
        self._text = text
        self.look()

    def look(self) -> None:
        """Say what was not said yet, if it is time. Call it also when nothing comes."""
        now = self._clock()
        if self._next is None or now >= self._next:
            self.say_rest()
            self._next = now + self._pause

    def say_rest(self) -> None:
        """Say what was not said yet."""
        new, self._said = self.count - self._said, self.count
        if new:
            more = "" if self.count == 1 else f" ({new} more, {self.count} in all)"
            say(f"{self._text}{more}")


class Outage:
    """A trouble that lasts: said once, tried again at growing intervals, said once when over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._delay = 0.0
        self._until = 0.0

    @property
    def lasts(self) -> bool:
        return self._delay > 0

    def waits(self) -> float:
        """Seconds until the next try; 0: now."""
        return max(0.0, self._until - self._clock()) if self.lasts else 0.0

    def failed(self, text: str) -> None:
        """A try has failed."""
        if not self.lasts:
            say(text)
        self._delay = min(_LONGEST, 2 * self._delay or 0.5)
        self._until = self._clock() + self._delay

    def worked(self, text: str) -> None:
        """A try has worked."""
        if self.lasts:
            say(text)
        self._delay = 0.0
