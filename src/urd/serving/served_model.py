"""A detector on the line: its file, its thresholds in force, and how it judges one image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from urd.detector import Detector
from urd.engines.exported import ExportedEngine
from urd.errors import UrdError, UsageError
from urd.inspection.calibration import Thresholds
from urd.inspection.judge import Inspection
from urd.inspection.prediction import Failure, Prediction
from urd.model.run_folder import model_file_of

PICTURE_SIDE = 1600  # pixels of the picture that a prediction keeps
_TRIES = 3


class ServedModel:
    """A detector with a name on this line.

    Attributes:
        sha256: identifies the file, with its thresholds; a recalibrated file has another one.
        engine: what computes, in words, such as "onnx cpu int8".
    """

    def __init__(
        self,
        name: str,
        path: Path,
        detector: Detector,
        sha256: str,
        inspection: Inspection | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.detector = detector
        self.sha256 = sha256
        self._in_force: tuple[Inspection, int | None] = (inspection or Inspection(), None)
        engine = detector.engine
        kind = engine.format if isinstance(engine, ExportedEngine) else "torch"
        self.engine = f"{kind} {engine.device} {engine.precision}"

    @classmethod
    def load(
        cls, name: str, path: Path, inspection: Inspection | None = None, **opening: Any
    ) -> ServedModel:
        """Open a run folder, a model file or an exported file.

        Args:
            opening: as `Detector.load`.

        Raises:
            UsageError: it has no thresholds, so that it cannot decide; or as `Detector.load`.
            UrdError: as `Detector.load`, or the file changes all the time.
        """
        for _ in range(_TRIES):
            before = file_sha256(path)
            detector = Detector.load(path, **opening)
            if file_sha256(path) == before:
                break
        else:
            raise UrdError(f"{path} changes while it is read: write it elsewhere, then rename it")
        if detector.header.calibration is None:
            raise UsageError(f"{path} has no thresholds: run urd calibrate {path} GOOD")
        return cls(name, path, detector, before, inspection)

    @property
    def inspection(self) -> Inspection:
        """How images are judged, with the thresholds of a person."""
        return self._in_force[0]

    @property
    def change(self) -> int | None:
        """The number of the threshold change in force; `None`: as calibrated."""
        return self._in_force[1]

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds in force."""
        return self._thresholds(self.inspection)

    def _thresholds(self, inspection: Inspection) -> Thresholds:
        thresholds = self.detector.thresholds(inspection)
        assert thresholds is not None  # `load` refuses others
        return thresholds

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return self.detector.config.image_size

    def facts(self) -> dict[str, Any]:
        """The thresholds in force, for rows and answers."""
        inspection, change = self._in_force  # both of one moment
        thresholds = self._thresholds(inspection)
        return {
            "review": thresholds.review.threshold,
            "reject": thresholds.reject.threshold,
            "change": change,
        }

    def set_thresholds(self, change: dict[str, Any] | None) -> None:
        """Apply the last change of a person, as the store keeps it; `None`: as calibrated.

        Raises:
            UsageError: the thresholds are no numbers, or reject is below review.
        """
        review, reject = (change or {}).get("review"), (change or {}).get("reject")
        inspection = replace(self.inspection, review_at=review, reject_at=reject)
        self.detector.thresholds(inspection)  # raises before anything is changed
        # One assignment: another thread sees the old thresholds with their number, or the new ones.
        self._in_force = (inspection, None if change is None else int(change["id"]))

    def judge(self, images: Sequence[bytes | Path]) -> list[Prediction | Failure]:
        """Judge images together; each keeps its picture."""
        return list(self.detector.predict_many(images, len(images), self.inspection, PICTURE_SIDE))

    def same_place(self, other: ServedModel) -> bool:
        """Whether another model sees the same part of the image at the same size."""
        mine, theirs = self.detector.header, other.detector.header
        if self.size != other.size or (mine.roi is None) != (theirs.roi is None):
            return False
        return mine.roi is None or theirs.roi is None or bool((mine.roi == theirs.roi).all())


def file_sha256(path: Path) -> str:
    """SHA-256 of a model: of its file, or of all files of one export.

    Raises:
        UsageError: there is no such file.
    """
    digest = hashlib.sha256()
    for part in _files(path):
        try:
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except FileNotFoundError as error:
            place = "the folder " if path.is_dir() else ""
            raise UsageError(
                f"there is no model at {place}{path}: give a run of urd fit, a model file or an "
                "exported file"
            ) from error
        except OSError as error:
            raise UsageError(f"{part} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.suffix.lower() == ".xml":
        return [path, path.with_suffix(".bin")]
    return [model_file_of(path)]


def thresholds_in_force(run: Path, store: Path | None) -> Inspection:
    """The thresholds that a person has set for a model in a store; without one, as calibrated.

    Raises:
        UsageError: there is no such store or model.
        StoreError: the store cannot be read.
    """
    if store is None:
        return Inspection()
    from urd.serving.store import Store

    opened = Store(store, create=False)
    try:
        change = opened.threshold_change(file_sha256(run)) or {}
    finally:
        opened.close()
    return Inspection(review_at=change.get("review"), reject_at=change.get("reject"))
