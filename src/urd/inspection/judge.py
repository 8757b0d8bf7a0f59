"""From map and score to a verdict, by the thresholds of a calibrated detector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from urd.errors import UsageError
from urd.inspection.calibration import Calibration, Thresholds
from urd.inspection.defects import find_defects
from urd.inspection.prediction import Prediction


@dataclass(frozen=True)
class Inspection:
    """The operating point and the limits for defects.

    Attributes:
        false_reject: target share of good images above the upper threshold (NG); `None`: as
            calibrated. review: the same for the lower threshold (REVIEW).
        smallest_area: smallest defect to report, in pixels of the original image.
        mm_per_pixel: scale of the original image, for areas in mm2.
        review_at, reject_at: thresholds for image scores that a person has set; they override the
            shares. `None` for both: none.
    """

    false_reject: float | None = None
    review: float | None = None
    smallest_area: float = 0.0
    mm_per_pixel: float | None = None
    review_at: float | None = None
    reject_at: float | None = None

    def __post_init__(self) -> None:
        if self.mm_per_pixel is not None and not 0 < self.mm_per_pixel < float("inf"):
            raise UsageError(f"mm_per_pixel is {self.mm_per_pixel}; give a positive number")
        if not 0 <= self.smallest_area < float("inf"):
            raise UsageError(f"smallest_area is {self.smallest_area}; give 0 or a positive number")
        if (self.review_at is None) != (self.reject_at is None):
            raise UsageError("give both review_at and reject_at, or neither")

    @property
    def names_shares(self) -> bool:
        """Whether it asks for other target shares than the calibrated ones."""
        return self.false_reject is not None or self.review is not None

    def thresholds(self, calibration: Calibration) -> Thresholds:
        """The thresholds between OK, REVIEW and NG, and those of maps."""
        if self.review_at is not None and self.reject_at is not None:
            return _thresholds_at(calibration, self.review_at, self.reject_at)
        return _thresholds_of(calibration, self.false_reject, self.review)


def judge(raw: Prediction, calibration: Calibration | None, inspection: Inspection) -> Prediction:
    """The prediction with verdict, calibrated score and defects; unchanged without calibration.

    The verdict depends on the score alone. OK images have no defects. Other images have at least
    one, unless all are below `smallest_area`: if no value of the map is above the threshold for
    peaks, the highest one is the seed.
    """
    if calibration is None:
        return raw
    thresholds = inspection.thresholds(calibration)
    verdict = thresholds.verdict(raw.score)
    calibrated = calibration.calibrated(raw.score, thresholds.review.threshold)
    marks = _marks_of(calibration, thresholds)
    judged = replace(raw, verdict=verdict, calibrated=calibrated, marks=marks)
    if verdict == "OK":
        return judged
    highest = float(np.nextafter(raw.anomaly_map.max(), -np.inf))
    defects = find_defects(
        raw.anomaly_map,
        raw.size,
        grow=thresholds.pixel.threshold,
        seed=min(thresholds.peak.threshold, highest),
        smallest_area=inspection.smallest_area,
        mm_per_pixel=inspection.mm_per_pixel,
        roi=raw.roi,
    )
    return replace(judged, defects=defects)


@lru_cache(maxsize=32)
def _thresholds_of(
    calibration: Calibration, false_reject: float | None, review: float | None
) -> Thresholds:
    """`Calibration.thresholds`, cached per operating point because it takes milliseconds."""
    return calibration.thresholds(false_reject, review)


@lru_cache(maxsize=32)
def _marks_of(calibration: Calibration, thresholds: Thresholds) -> tuple[float, float]:
    return calibration.marks(thresholds)


@lru_cache(maxsize=32)
def _thresholds_at(calibration: Calibration, review: float, reject: float) -> Thresholds:
    return calibration.thresholds_at(review, reject)
