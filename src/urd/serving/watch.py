"""Watch a folder: judge each image that arrives, store the row, then move or keep the file."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import Timeout

from urd.errors import NotWritten, UsageError, some
from urd.serving.after import After, Then
from urd.serving.arrivals import Arrivals
from urd.serving.database import on_network
from urd.serving.file_identity import status_of
from urd.serving.file_judge import FileJudge
from urd.serving.model_on_disk import ModelOnDisk
from urd.serving.part import Part
from urd.serving.readiness import Ready
from urd.serving.saying import Mentions, Outage, say
from urd.serving.seen_files import SeenFiles
from urd.serving.served_model import ServedModel
from urd.serving.station import Outcome, Station
from urd.serving.store import Store, StoreError
from urd.serving.wakeups import Wakeups
from urd.serving.watched_tree import FolderAway, WatchedTree
from urd.serving.watchers import only_watch_of
from urd.system.files import absolute, writing

MAX_BYTES = 256 * 2**20
_TURN = 0.25  # seconds; the longest pause of the loop
_SAVE_SECONDS = 1.0  # between two writes of what was seen
_PORTION = 0.05  # seconds of a look at a large folder, before files are judged again
_SCAN_PAUSE = 4  # times as long as the look, so that it takes at most a fifth of the time


@dataclass(frozen=True)
class WatchSettings:
    """How a folder is watched.

    Attributes:
        ready: when a file is complete. then: what becomes of it.
        aside: a folder for images that could not be judged; `None`: STORE.aside beside the store.
        rescan: seconds between two looks at the whole folder.
        most_bytes: a larger file is an ERROR.
        batch_size: of files that wait at the same time.
        once: judge what is there, then end.
    """

    ready: Ready = field(default_factory=Ready)
    then: Then = field(default_factory=Then)
    aside: Path | None = None
    part: Part = field(default_factory=Part)
    rescan: float = 2.0
    most_bytes: int = MAX_BYTES
    batch_size: int = 8
    once: bool = False


class Watch:
    """The loop of `urd watch`. One thread calls `run`.

    Args:
        folder: it is watched with all folders below it.
        report: called with each new row, in the order of the rows.

    Attributes:
        not_stored: called with the reason when a judgement cannot be stored. Set it before `run`.

    Raises:
        UsageError: the folder is missing, or it is also the folder that files are moved to.
        StoreError: the store cannot be read.
    """

    def __init__(
        self,
        station: Station,
        model: ServedModel,
        folder: Path,
        settings: WatchSettings,
        report: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        store = station.store
        self.folder = absolute(folder)
        self.aside = aside = absolute(
            settings.aside or store.path.with_name(store.path.name + ".aside")
        )
        others = [aside, store.images, *filter(None, [settings.then.folder])]
        _refuse(self.folder, others)
        model.judge([])  # refuses a detector that lacks its regions of interest
        self.station, self.settings = station, settings
        self.not_stored: Callable[[str], None] = lambda _: None
        self._mentions = Mentions()
        tree = WatchedTree(self.folder, others, self._mentions)
        self._seen = SeenFiles(store, self.folder)
        self._arrivals = Arrivals(tree, settings.ready, self._seen)
        self._after = After(
            store,
            self.folder,
            settings.then,
            aside,
            self._arrivals.gone,
            patient=not settings.once,
        )
        self._judge = FileJudge(
            station,
            model,
            self._arrivals,
            self._after,
            settings.part,
            settings.most_bytes,
            not settings.once,
            report,
            self._mentions,
        )
        self._disk = ModelOnDisk(model)
        self._outage = Outage()
        self._wake = threading.Event()
        self._wakeups: Wakeups | None = None
        self._root: tuple[int, int] | None = None
        self._scan: Iterator[None] | None = None
        self._scan_at = self._scan_took = self._scanned = 0.0
        self._saved = self._turned = time.monotonic()

    def idle_seconds(self) -> float:
        """Seconds since the loop last turned, for a heartbeat; under a second if all is well."""
        return time.monotonic() - self._turned

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set; the batch in hand is finished.

        Raises:
            NotWritten: another watch has this folder, or the folder cannot be written.
            StoreError: with `once`, the store has failed.
        """
        with ExitStack() as held:
            self._enter(held)
            try:
                self._after.resume()
                if self.settings.once:
                    self._once(stop)
                else:
                    self._for_ever(stop, held)
            finally:
                self._judge.unfit.say_rest()
                with suppress(StoreError):
                    self._seen.save()

    def _for_ever(self, stop: threading.Event, held: ExitStack) -> None:
        while not stop.is_set():
            self._turned = time.monotonic()
            self._look_at_changes()
            self._scan_some(held)
            self._after.retry()
            self._disk.look()
            self._save()
            if not self._judge_some() and self._scan is None:
                self._wake.wait(self._pause())
                self._wake.clear()

    def _once(self, stop: threading.Event) -> None:
        """Judge what is complete now. A file that changes meanwhile stays for the next call."""
        for _ in self._arrivals.scan():
            self._turned = time.monotonic()
            if stop.is_set():
                return
        end = time.monotonic() + self.settings.ready.seconds
        while not stop.is_set():
            self._turned = time.monotonic()
            if self._judge_some():
                continue
            if time.monotonic() > end and not self._arrivals.complete(1):
                break
            stop.wait(min(_TURN, 0.01 + max(0.0, end - time.monotonic())))
        if waiting := self._arrivals.left():
            say(f"not complete ({self._arrivals.lacks}), so not judged: {some(waiting)}")
        if moves := len(self._after):
            say(f"{moves} files are judged but not yet moved: the next call moves them")

    def _enter(self, held: ExitStack) -> None:
        """Be the only watch of the folder, and listen for changes in it."""
        held.enter_context(_alone(self.folder, self.station.store, self.settings.then))
        status = status_of(self.folder)
        self._root = None if status is None else (status.st_dev, status.st_ino)
        if self.settings.once:
            return
        if on_network(self.folder):
            text = f"{self.folder} is on a network file system: new files are seen"
            self._mentions.once("wakeups", f"{text} only at each --rescan")
            return
        self._wakeups = Wakeups(self.folder, self._wake, self._mentions)
        self._wakeups.start()
        held.callback(self._wakeups.close)

    def _look_at_changes(self) -> None:
        changed = self._wakeups.take() if self._wakeups else set()
        if changed is None or self._arrivals.look(changed):
            self._scan_at = self._scanned + _SCAN_PAUSE * self._scan_took

    def _scan_some(self, held: ExitStack) -> None:
        """Look at the whole folder if it is time; at a very large one in portions."""
        began = time.monotonic()
        if self._scan is None:
            if began < self._scan_at:
                return
            self._scan, self._scan_took, self._scan_at = self._whole(held), 0.0, float("inf")
        try:
            for _ in self._scan:
                if time.monotonic() > began + _PORTION:
                    self._scan_took += time.monotonic() - began
                    return
        except FolderAway as error:
            self._mentions.once("away", f"{error}; waiting for it")
        else:
            self._mentions.over("away", f"{self.folder} is back")
        self._scan, self._scanned = None, time.monotonic()
        self._scan_took += self._scanned - began
        pause = max(self.settings.rescan, _SCAN_PAUSE * self._scan_took)
        self._scan_at = min(self._scan_at, self._scanned + pause)

    def _whole(self, held: ExitStack) -> Iterator[None]:
        self._reenter(held)
        yield from self._arrivals.scan()

    def _reenter(self, held: ExitStack) -> None:
        """Lock a folder that has come back, perhaps as another one; let go of one that went.

        Raises:
            NotWritten: another watch has it now.
            FolderAway: it cannot be locked yet.
        """
        status = status_of(self.folder)
        root = None if status is None else (status.st_dev, status.st_ino)
        if root == self._root:
            return
        held.close()
        self._wakeups, self._root = None, None
        if root is not None:
            try:
                self._enter(held)
            except NotWritten as error:
                if isinstance(error.__cause__, Timeout):
                    raise
                raise FolderAway(str(error)) from error

    def _pause(self) -> float:
        """Seconds for which there is nothing to do, unless a change wakes us."""
        times = [_TURN, self._scan_at - time.monotonic()]
        if self._outage.lasts:
            times.append(self._outage.waits())
        elif (soonest := self._arrivals.wait()) is not None:
            times.append(soonest)
        return max(0.005, min(times))

    def _judge_some(self) -> bool:
        """Judge a batch of complete files; says whether there may be more."""
        if self._outage.waits():
            return False
        files = self._arrivals.complete(self.settings.batch_size)
        if not files:
            return False
        try:
            if self._outage.lasts:
                self.station.store.check()
            self._judge.judge(files)
        except StoreError as error:
            self.not_stored(str(error))
            if self.settings.once:
                raise
            self._outage.failed(f"{error}; images stay where they are; trying again")
            return False
        self._outage.worked("the store works again")
        return True

    def _save(self) -> None:
        """Write what was seen now and then."""
        now = time.monotonic()
        if now - self._saved < _SAVE_SECONDS or self._outage.lasts:
            return
        self._saved = now
        with suppress(StoreError):  # the next judgement says it
            self._seen.save()


@contextmanager
def _alone(folder: Path, store: Store, then: Then) -> Iterator[None]:
    """Be the only watch of a folder. If files stay, it may be a folder without write permission.

    Raises:
        NotWritten: there is another watch of this folder, or with this store of one around it or
            in it; or files are to be moved and the folder cannot be written.
        StoreError: the store fails.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(writing(folder, below=False))
        except NotWritten as error:
            if isinstance(error.__cause__, Timeout):
                raise NotWritten(
                    f"another urd watch already watches {folder}: end it first"
                ) from error.__cause__
            if then.moves:
                raise
            name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
            beside = store.path.with_name(f"{store.path.name}.watch-{name}")
            stack.enter_context(writing(beside, below=False))
        stack.enter_context(only_watch_of(folder, store))
        yield


def _refuse(folder: Path, others: list[Path]) -> None:
    """Refuse a folder that is missing, or in which judged files would arrive again.

    Raises:
        UsageError: see above; or one of the other folders is a file.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} to watch")
    for other in others:
        if other.is_dir() and other.samefile(folder):
            raise UsageError(f"{folder} is watched: move files to another folder")
        if other.exists() and not other.is_dir():
            raise UsageError(f"{other} is a file; a folder is needed")
