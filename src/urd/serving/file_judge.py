"""From complete files to rows: read, judge together, store each, then let the file go."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from urd.errors import UrdError, first_line, quoted
from urd.inspection.prediction import Failure, Prediction
from urd.serving.after import After
from urd.serving.arrivals import Arrivals, Complete
from urd.serving.file_reading import Changed, TooLarge, is_changed, read_whole
from urd.serving.part import Part
from urd.serving.saying import Counted, Mentions, say
from urd.serving.served_model import ServedModel
from urd.serving.station import Arrived, Outcome, Station
from urd.serving.store import Move, StoreError

_TRIES, _PAUSE = 5, 1.0  # to read a file; on Windows its writer may still hold it
_CHANGED_PAUSE = 0.05
_UNFIT_PAUSE = 3600.0  # seconds between two lines


@dataclass(frozen=True)
class _Read:
    """A file that was read; `problem` says why it cannot be judged."""

    file: Complete
    arrived: Arrived
    problem: str | None = None


@dataclass
class FileJudge:
    """Judges complete files of a watched folder.

    Attributes:
        most_bytes: a larger file is an ERROR; also of a batch together.
        patient: try again to read a file that cannot be read; else it is an ERROR at once.
        report: called with each new row, in the order of the rows.
        unfit: files whose names the pattern of --part does not fit.
    """

    station: Station
    model: ServedModel
    arrivals: Arrivals
    after: After
    part: Part
    most_bytes: int
    patient: bool
    report: Callable[[Outcome], None]
    mentions: Mentions
    unfit: Counted = field(default_factory=lambda: Counted(_UNFIT_PAUSE))

    def judge(self, files: Sequence[Complete]) -> None:
        """Judge files together and store a row for each; a file that has its row gets no other.

        Raises:
            StoreError: the store has failed; files without a row still wait.
        """
        self._refresh()
        new = []
        for read in self._read_all(files):
            row = self.station.store.by_key(read.arrived.key or "")
            if row is None:
                new.append(read)
            else:
                if self.after.moves:
                    say(f"{read.file.path} is judgement {row.sequence} already: no new one")
                self._leave(read.file, row.to_dict(), None)
        results = self._results([self._image(read) for read in new if read.problem is None])
        for read in new:
            path = read.file.path
            result = next(results) if read.problem is None else Failure(path, read.problem)
            if self._needs_path and is_changed(path, read.file.identity):
                self.arrivals.again(read.file, _CHANGED_PAUSE)
            else:
                self._store(read, result)

    def _refresh(self) -> None:
        """Apply the thresholds of a person; if they cannot be applied, the others stay."""
        try:
            self.station.refresh(self.model)
        except StoreError:
            raise
        except UrdError as error:
            self.mentions.once("thresholds", f"the thresholds in the store are not used: {error}")

    def _read_all(self, files: Sequence[Complete]) -> Iterator[_Read]:
        size = 0
        for file in files:
            size += file.size
            if size > self.most_bytes and file is not files[0]:
                return  # the others wait for the next batch
            if (read := self._read(file)) is not None:
                yield read

    def _read(self, file: Complete) -> _Read | None:
        problem, image = None, b""
        try:
            image = read_whole(file.path, file.identity, self.most_bytes)
        except (Changed, FileNotFoundError):
            self.arrivals.again(file, _CHANGED_PAUSE)
            return None
        except TooLarge:
            problem = f"{file.size} bytes: over the {self.most_bytes} of --max-bytes"
        except OSError as error:
            if self.patient and file.tries + 1 < _TRIES:
                self.arrivals.again(file, _PAUSE)
                return None
            problem = f"cannot be read ({error.strerror or first_line(error)})"
        return _Read(file, self._arrived(file, image, problem), problem)

    def _arrived(self, file: Complete, image: bytes, problem: str | None) -> Arrived:
        """The image with its key: path, size, time and content; nothing was read: no content."""
        content = "" if problem else hashlib.sha256(image).hexdigest()
        size, written, changed, _ = file.identity.split(" ")
        facts = b"\0".join((os.fsencode(file.path), f"{size} {written} {content}".encode()))
        key = hashlib.sha256(facts).hexdigest()
        part = self.part.of(file.path)
        # The time of the last change: copies may keep an old time of the content.
        return Arrived(image, content, file.since, file.path, part, key, int(changed) / 1e9)

    @property
    def _needs_path(self) -> bool:
        """Whether regions of interest are found by the name of the file, which is read again."""
        return self.model.detector.roi_per_image

    def _image(self, read: _Read) -> bytes | Path:
        return read.file.path if self._needs_path else read.arrived.image

    def _results(self, images: list[bytes | Path]) -> Iterator[Prediction | Failure]:
        """Results in order. An image on which the detector fails must not stop the others."""
        try:
            yield from self.model.judge(images) if images else ()
        except Exception as error:  # out of memory, or what no test has shown
            if len(images) == 1:
                yield Failure(Path("image"), f"could not be judged ({first_line(error)})")
                return
            for image in images:
                yield from self._results([image])

    def _store(self, read: _Read, result: Prediction | Failure) -> None:
        move = self.after.planned(read.file, result.verdict)
        outcome = self.station.conclude(self.model, read.arrived, result, move)
        if not outcome.stored:
            raise StoreError(outcome.problem or "the store has failed")
        if outcome.new:
            self.report(outcome)
            self._count_unfit(read)
        self._leave(read.file, outcome.row, move if outcome.new else None)

    def _count_unfit(self, read: _Read) -> None:
        if self.part.is_pattern and read.arrived.part is None:
            name = quoted(read.file.path.name)
            self.unfit.add(
                f"--part {quoted(self.part.rule)} does not fit {name}: a row has no part"
            )

    def _leave(self, file: Complete, row: dict[str, Any], written: Move | None) -> None:
        """Let a file with a row go its way.

        Args:
            written: the move that is in the store with the row. It is another one than needed if
                the camera made the judgement an ERROR, and none if the row is an earlier one.
        """
        move = self.after.planned(file, row["verdict"])
        if move is not None and move != written:
            self.after.plan(row["sequence"], move)
        self.arrivals.judged(file)
        if move is not None:
            self.after.apply(replace(move, sequence=row["sequence"]))
