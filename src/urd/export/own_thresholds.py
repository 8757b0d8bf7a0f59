"""The images that set an exported file's own thresholds.

They must be good images that training did not see, because training images score too low. Test
images are never used, not even good ones: they must stay free to measure the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from urd.data import read_good_images
from urd.detector import Detector
from urd.errors import UsageError
from urd.inspection.calibration import FALSE_REJECT, REVIEW, Calibration
from urd.inspection.prediction import Failure
from urd.system.progress import note
from urd.training.training_data import HELD_OUT, held_out

_CLOSE = 0.05  # relative; two machines with torch may differ by this much in the score of an image


@dataclass(frozen=True)
class Unseen:
    """Good images that training did not see, and their source."""

    paths: list[Path]
    source: str

    @classmethod
    def given(cls, folder: Path) -> Unseen:
        """All images in a folder.

        Raises:
            UsageError: there is no such folder, or it is a data set with training and test images.
        """
        return cls(read_good_images(folder), str(folder))


def unseen_by_training(
    detector: Detector, good: Sequence[Path], calibrated_on: Path | None
) -> Unseen | None:
    """The images that calibrated the detector, if they can be found again; else `None`.

    Held-out images are found in the training images, `good`, by the seed. Images of `urd calibrate`
    are those in its folder, `calibrated_on`, if their scores still match the stored ones.
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
    """Set the thresholds of a file by its own scores, with the same target shares as before."""
    shares = (before.false_reject, before.review) if before else (FALSE_REJECT, REVIEW)
    failures = opened.calibrate(
        unseen.paths, unseen.source, false_reject=shares[0], review=shares[1]
    )
    for failure in failures:
        note(f"skipped {failure.path}: {failure.reason}")
    opened.save(path)
