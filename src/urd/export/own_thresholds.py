"""Which images an exported file takes thresholds of its own from.

They must be good images that training did not see. Test images are never taken, good ones neither:
what was set on them cannot be measured on them. Training images score too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from urd.data import read_layout
from urd.detector import Detector
from urd.errors import UsageError
from urd.inspection.calibration import FALSE_REJECT, REVIEW, Calibration
from urd.inspection.prediction import Failure
from urd.system.progress import note
from urd.training.training_data import HELD_OUT, held_out

_CLOSE = 0.05  # relative difference between two scores of one image, by torch on two machines


@dataclass(frozen=True)
class Unseen:
    """Good images that training did not see, and where they are from."""

    paths: list[Path]
    source: str

    @classmethod
    def given(cls, folder: Path) -> Unseen:
        """All images in a folder.

        Raises:
            UsageError: no such folder, or a data set with its own training and test images.
        """
        data = read_layout(folder)
        if data.layout != "folder":
            raise UsageError(
                f"{folder} is a data set with its own training and test images; give a folder of "
                "good images that training did not see"
            )
        return cls([sample.path for sample in data.train], str(folder))


def unseen_by_training(
    detector: Detector, good: Sequence[Path], calibrated_on: Path | None
) -> Unseen | None:
    """The images of the detector's own calibration, if they can be found again.

    Those that training held out are found among its images, `good`, by the seed; those of an
    `urd calibrate` in their folder, `calibrated_on`, if their scores are still those it stored.
    """
    calibration = detector.header.calibration
    if calibration is None:
        return None
    if calibration.source == HELD_OUT:
        paths = held_out(good, detector.header)
        return Unseen(paths, HELD_OUT) if paths else None
    return _in_folder(detector, calibration, calibrated_on)


def _in_folder(detector: Detector, calibration: Calibration, folder: Path | None) -> Unseen | None:
    if folder is None or not folder.is_dir():
        return None
    try:
        found = Unseen.given(folder)
    except UsageError:
        return None
    judged = detector.predict_many(found.paths)
    scores = sorted(result.score for result in judged if not isinstance(result, Failure))
    stored = calibration.scores
    same = len(scores) == len(stored) and np.allclose(scores, stored, rtol=_CLOSE, atol=0)
    return found if same else None


def calibrate_file(
    opened: Detector, path: Path, unseen: Unseen, before: Calibration | None
) -> None:
    """Give a file thresholds by its own scores, at the shares that were wanted before."""
    shares = (before.false_reject, before.review) if before else (FALSE_REJECT, REVIEW)
    failures = opened.calibrate(
        unseen.paths, unseen.source, false_reject=shares[0], review=shares[1]
    )
    for failure in failures:
        note(f"left out {failure.path}: {failure.reason}")
    opened.save(path)
