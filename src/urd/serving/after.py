"""What becomes of a file after its judgement: it is kept, moved, deleted, or put aside."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from urd.errors import UsageError, quoted
from urd.serving.arrivals import Complete
from urd.serving.file_identity import (
    identity_of,
    path_of,
    sha256_of,
    status_of,
    text_of,
)
from urd.serving.moving import place, settle, taken_name, was_placed
from urd.serving.readiness import MARKER
from urd.serving.saying import Mentions, say
from urd.serving.store import Move, Store, StoreError
from urd.system.files import absolute, remove_leftovers

_TRIES = 4  # to take a file from its folder; on Windows another program may hold it for a while
_LONGEST = 30.0  # seconds between two tries
_TARGET = "target"


@dataclass(frozen=True)
class Then:
    """The rule of `--then`.

    Attributes:
        moves: false: files stay. folder: where they go; `None`: they are deleted.
    """

    moves: bool = False
    folder: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Then:
        """From keep, delete or move:FOLDER.

        Raises:
            UsageError: it is none of these.
        """
        if text == "keep":
            return cls()
        if text == "delete":
            return cls(moves=True)
        if text.startswith("move:") and (name := text.removeprefix("move:")):
            return cls(moves=True, folder=absolute(name))
        raise UsageError(f"--then is {quoted(text)}; give keep, delete or move:FOLDER")


class _CannotLeave(OSError):
    """The file cannot be taken from its folder."""


class After:
    """Moves and deletes judged files of one watched folder.

    A move is written to the store together with the judgement. So after a kill it is done again,
    and nothing else is. It is done only to the very file that was judged.

    Args:
        folder: absolute. then: for images with a judgement. aside: a folder for ERROR.
        gone: called with each file that has left.
        patient: try several times to take a file from its folder.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        then: Then,
        aside: Path,
        gone: Callable[[Path], None],
        *,
        patient: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._folder = folder
        self._then = then
        self._aside = aside
        self._gone = gone
        self._most = _TRIES if patient else 1
        self._clock = clock
        self._mentions = Mentions()
        self._open: dict[int, tuple[Move, int, float]] = {}  # with tries, and when to try again

    def __len__(self) -> int:
        """How many files wait to be moved."""
        return len(self._open)

    @property
    def moves(self) -> bool:
        """Whether judged files leave the folder."""
        return self._then.moves

    def planned(self, file: Complete, verdict: str | None) -> Move | None:
        """What becomes of a file with this verdict; `None`: it stays."""
        folder = self._aside if verdict == "ERROR" else self._then.folder
        if folder is None and not self._then.moves:
            return None
        target = None if folder is None else text_of(self._below(folder, file.path))
        return Move(text_of(file.path), target, file.version)

    def plan(self, sequence: int, move: Move) -> Move:
        """Write a move to the store; it replaces one that was planned for this judgement.

        Raises:
            StoreError: it cannot be written.
        """
        with self._store.database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO moves VALUES (?, ?, ?, ?)",
                (sequence, move.source, move.target, move.identity),
            )
        return replace(move, sequence=sequence)

    def resume(self) -> None:
        """Do what a killed watch of this folder has left.

        Raises:
            StoreError: the store cannot be read.
        """
        for folder in filter(None, (self._then.folder, self._aside)):
            remove_leftovers(folder, below=True)  # half a copy
        for move in self._store.pending_moves():
            if not path_of(move.source).is_relative_to(self._folder):
                continue  # of another folder that is watched with the same store
            row = self._store.get(move.sequence)
            if row is not None and row.body["verdict"] == "ERROR":
                target = text_of(self._below(self._aside, path_of(move.source)))
                move = replace(move, target=target)
            self.apply(move)

    def apply(self, move: Move) -> None:
        """Move or delete a file now. What fails is tried again by `retry`."""
        self._open[move.sequence] = (move, 0, 0.0)
        self._try(move.sequence)

    def retry(self) -> None:
        """Try what has failed before and is due."""
        now = self._clock()
        for sequence, (_, _, due) in list(self._open.items()):
            if due <= now:
                self._try(sequence)

    def _try(self, sequence: int) -> None:
        move, tries, _ = self._open[sequence]
        if not self._folder.is_dir():  # it may come back with the file
            return
        try:
            self._carry_out(move)
            self._store.moved(sequence)
        except StoreError:  # the next try finds that all is done
            self._later(move, tries)
        except OSError as error:
            self._failed(move, tries, error)
        else:
            del self._open[sequence]
            if not self._open:
                self._mentions.over(_TARGET, "files can be moved again")

    def _failed(self, move: Move, tries: int, error: OSError) -> None:
        """Try again as long as the other folder is away or full; else give up after a time."""
        reason = _reason(error)
        if not self._is_aside(move) and not isinstance(error, _CannotLeave):
            place = path_of(move.target or "").parent
            self._mentions.once(_TARGET, f"cannot move files to {place}: {reason}; trying again")
        elif tries + 1 >= self._most:
            source = path_of(move.source)
            self._mentions.once(reason, f"{source} stays where it is, as others may: {reason}")
            with suppress(StoreError):  # then the next start tries again
                self._store.moved(move.sequence)
            del self._open[move.sequence]
            return
        self._later(move, tries + 1)

    def _later(self, move: Move, tries: int) -> None:
        due = self._clock() + min(_LONGEST, 2.0 ** min(tries, 10))
        self._open[move.sequence] = (move, tries, due)

    def _carry_out(self, move: Move) -> None:
        """Move or delete the judged file; leave any other file alone.

        Raises:
            _CannotLeave: it cannot be taken from its folder.
            OSError: it cannot be put into the other folder; it is still where it was.
        """
        source, number = path_of(move.source), move.sequence
        target = None if move.target is None else path_of(move.target)
        taken, own = taken_name(source, number), None
        if not os.path.lexists(taken):
            if not os.path.lexists(source):
                self._missing(source, target, move)
                return
            if not self._is_judged(source, move):
                say(f"{source} has changed since judgement {number}: it was not moved")
                return
            own = None if target is None else place(source, target, number)
            try:
                source.rename(taken)
            except OSError as error:
                if own is not None:
                    own.unlink()
                raise _CannotLeave(error.errno, _reason(error)) from error
        self._finish(source, taken, own, move)

    def _finish(self, source: Path, taken: Path, placed: Path | None, move: Move) -> None:
        """Delete the file that was taken, if it is the judged one; another one goes back.

        Args:
            placed: what this call has put into the other folder.
        """
        status = status_of(taken)
        if status is None or self._is_judged(taken, move, renamed=True):
            _remove_marker(source, move.identity.partition(";")[2])
            taken.unlink()
            self._gone(source)
            return
        if placed is not None and not self._is_judged(placed, move):
            placed.unlink()
        back = settle(taken, source, move.sequence)
        say(f"{back} came while another file of that name was moved: it stays")

    def _missing(self, source: Path, target: Path | None, move: Move) -> None:
        size, time_ns, *_ = map(int, move.identity.partition(";")[0].split(" "))
        if target is not None and not was_placed(target, move.sequence, size, time_ns):
            say(f"{source} is gone: it could not be moved after judgement {move.sequence}")
        self._gone(source)

    def _is_judged(self, file: Path, move: Move, *, renamed: bool = False) -> bool:
        """Whether it is the judged file; the content decides if only its status has changed.

        Args:
            renamed: a rename has set the time of the last change.
        """
        status = status_of(file)
        if status is None:
            return False
        size, written, changed, inode = identity_of(status).split(" ")
        judged = move.identity.partition(";")[0].split(" ")
        if [size, written] != judged[:2]:
            return False
        if inode == judged[3] and (renamed or changed == judged[2]):
            return True
        row = self._store.get(move.sequence)
        try:
            return row is not None and sha256_of(file) == row.body["content_sha256"]
        except OSError:
            return False

    def _below(self, folder: Path, file: Path) -> Path:
        return folder / file.relative_to(self._folder)

    def _is_aside(self, move: Move) -> bool:
        return move.target is not None and path_of(move.target).is_relative_to(self._aside)


def _remove_marker(source: Path, identity: str) -> None:
    """Remove the marker with which a file was judged; a later one stands for a later file."""
    marker = source.with_name(source.name + MARKER)
    status = status_of(marker)
    if identity and status is not None and identity_of(status) == identity:
        with suppress(OSError):
            marker.unlink()


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
