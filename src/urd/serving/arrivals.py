"""The files of a watched folder that wait to be judged, and which of them are complete."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from urd.errors import some
from urd.serving.file_identity import identity_of, status_of
from urd.serving.readiness import MARKER, Ready
from urd.serving.saying import say
from urd.serving.seen_files import SeenFiles
from urd.serving.watched_tree import WatchedTree

_CHANGED_PAUSE = 0.05  # seconds
_PORTION = 256  # files between two pauses of a scan
_MANY = 10  # tries to read a file
_LONG = 60.0  # seconds; a file that waits longer is mentioned
_NO_MARKER = 10.0  # seconds; a marker that stays away so long may have a wrong name


@dataclass
class _Waiting:
    """A file that is not judged yet.

    Attributes:
        since: when it was first seen with this identity, by our clock.
        marker: the identity of its marker, if there is one.
        not_before: when to try again. tries: how often it could not be read.
        first: when its name was first seen. said: whether its long wait was mentioned.
    """

    identity: str
    since: float
    first: float
    marker: str | None = None
    not_before: float = 0.0
    tries: int = 0
    said: bool = False


@dataclass(frozen=True)
class Complete:
    """A file that is complete.

    Attributes:
        identity: of the file. marker: of its marker, if there is one.
        since: when it was first seen, by `time.monotonic()`.
        tries: how often it could not be read.
    """

    path: Path
    identity: str
    marker: str | None
    since: float
    tries: int

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.identity.split(" ")[0])

    @property
    def version(self) -> str:
        """Identifies the file together with its marker."""
        return f"{self.identity};{self.marker}" if self.marker else self.identity


class Arrivals:
    """Looks at a folder and remembers only what is in it.

    Args:
        clock: seconds that only rise, so that a clock that is set back changes nothing.
    """

    def __init__(
        self,
        tree: WatchedTree,
        ready: Ready,
        seen: SeenFiles,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tree = tree
        self.seen = seen
        self._ready = ready
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._there: set[str] = set()  # since the last scan began
        self._marker_said = False

    def __len__(self) -> int:
        return len(self._waiting)

    def scan(self) -> Iterator[None]:
        """Look at all files; it pauses at times, so that others can be judged meanwhile.

        The oldest of the new files come first.

        Raises:
            FolderAway: the folder cannot be read; nothing is forgotten.
        """
        new, self._there = [], set()
        for count, (path, status) in enumerate(self.tree.walk()):
            self._there.add(path)
            if path in self._waiting or not self._is_seen(path, identity_of(status)):
                new.append((status.st_mtime_ns, path, status))
            if count % _PORTION == 0:
                yield
        for _, path, status in sorted(new, key=lambda item: item[:2]):
            self._see(path, status)
        if self.tree.whole:
            self.seen.keep_only(self._there)
            for path in self._waiting.keys() - self._there:
                del self._waiting[path]
        self._mention_markers()
        self._mention_long()

    def look(self, paths: Iterable[str]) -> bool:
        """Look at files that may have changed.

        Returns:
            Whether a full `scan` is needed to understand the change.
        """
        scan = False
        for path in paths:
            path = path.removesuffix(MARKER)
            known = self.tree.knows(path)
            status = status_of(path) if known else None
            if known is None:
                scan = True
            elif status is None:
                self._waiting.pop(path, None)
            elif stat.S_ISDIR(status.st_mode):
                scan = True
            elif self.tree.is_image(path, status):
                self._see(path, status)
        return scan

    def complete(self, most: int) -> list[Complete]:
        """Up to `most` files that are complete now, in the order of their arrival."""
        now = self._clock()
        due = (path for path, waiting in self._waiting.items() if self._due(path, waiting, now))
        return [file for path in list(islice(due, most)) for file in self._still(path)]

    def wait(self) -> float | None:
        """Seconds until a file may be complete; `None`: not before something happens."""
        now = self._clock()
        times = (
            max(waiting.since + self._ready.seconds, waiting.not_before) - now
            for path, waiting in self._waiting.items()
            if self._ready.rule != "done" or self._is_marked(path, waiting)
        )
        soonest = min(times, default=None)
        return None if soonest is None else max(0.0, soonest)

    def judged(self, file: Complete) -> None:
        """The file is judged, so that it waits no longer."""
        self._waiting.pop(str(file.path), None)
        self.seen.add(str(file.path), file.version)

    def gone(self, file: Path) -> None:
        """The file has been moved or deleted."""
        self._waiting.pop(str(file), None)
        self.seen.forget(str(file))

    def again(self, file: Complete, seconds: float = 0.0) -> None:
        """The file could not be read: it waits anew, and at least so long."""
        waiting = self._waiting.get(str(file.path))
        if waiting is not None:
            waiting.since = self._clock()
            waiting.not_before = waiting.since + seconds
            waiting.tries += 1

    @property
    def lacks(self) -> str:
        """Why a file that waits is not complete, in words."""
        return f"no {MARKER}" if self._ready.rule == "done" else "still changing"

    def left(self) -> list[str]:
        """The files that wait."""
        return list(self._waiting)

    def _see(self, path: str, status: os.stat_result) -> None:
        self._there.add(path)
        identity = identity_of(status)
        if self._is_seen(path, identity):
            self._waiting.pop(path, None)
            return
        before = self._waiting.get(path)
        if before is None or before.identity != identity:
            now = self._clock()
            self._waiting.pop(path, None)  # it arrives anew, so others may come first
            if before is None:
                self._waiting[path] = _Waiting(identity, now, now)
            else:  # it may be changing all the time
                pause = now + _CHANGED_PAUSE
                self._waiting[path] = _Waiting(
                    identity, now, before.first, not_before=pause, said=before.said
                )
        if self._ready.rule == "done":
            marker = status_of(path + MARKER)
            self._waiting[path].marker = None if marker is None else identity_of(marker)

    def _is_seen(self, path: str, identity: str) -> bool:
        seen = self.seen.get(path)
        return seen is not None and seen.partition(";")[0] == identity

    def _is_marked(self, path: str, waiting: _Waiting) -> bool:
        """Whether there is a marker; one that stood for older content does not count again."""
        seen = self.seen.get(path) or ""
        return waiting.marker is not None and waiting.marker != seen.partition(";")[2]

    def _due(self, path: str, waiting: _Waiting, now: float) -> bool:
        if now < waiting.not_before or now - waiting.since < self._ready.seconds:
            return False
        return self._ready.rule != "done" or self._is_marked(path, waiting)

    def _still(self, path: str) -> Iterator[Complete]:
        """The file, if it is still as it was when it was first seen."""
        before = self._waiting[path]
        status = status_of(path)
        if status is None:
            del self._waiting[path]
            return
        self._see(path, status)
        waiting = self._waiting.get(path)
        if waiting is before:
            yield Complete(Path(path), before.identity, before.marker, before.since, before.tries)

    def _mention_markers(self) -> None:
        """Say once what the marker has to be called: with another name all files wait for ever."""
        if self._marker_said or self._ready.rule != "done":
            return
        now = self._clock()
        unmarked = [
            path
            for path, waiting in self._waiting.items()
            if now - waiting.first > _NO_MARKER and not self._is_marked(path, waiting)
        ]
        if not unmarked:
            return
        self._marker_said = True
        path = Path(unmarked[0])
        other = path.with_suffix(MARKER)
        hint = f"; {other.name} does not count" if status_of(other) is not None else ""
        say(
            f"{len(unmarked)} files wait for their marker: --ready done judges {path} when "
            f"{path.name}{MARKER} lies beside it{hint}"
        )

    def _mention_long(self) -> None:
        now = self._clock()
        late = {p: w for p, w in self._waiting.items() if not w.said and now - w.first > _LONG}
        late = {
            path: waiting for path, waiting in late.items() if not self._due(path, waiting, now)
        }
        for waiting in late.values():
            waiting.said = True
        if late:
            say(f"not complete for over a minute ({self.lacks}): {some(list(late))}")
