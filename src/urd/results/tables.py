"""The tables of a report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from urd.detector import Detector
from urd.evaluation.records import JudgedImage
from urd.evaluation.tally import VERDICTS, Tally
from urd.inspection.calibration import CONFIDENCE, Limit, chance_of_at_least
from urd.metrics import METRICS
from urd.results.counts import percent

_WANTED = (0.01, 0.05, 0.10)  # target shares of false rejects, beside that in force
METRICS_BY_TYPE = [metric for metric in METRICS.values() if metric.by_type]


@dataclass(frozen=True)
class Observed:
    """A target share of false rejects, its bound, and the result on the good test images.

    `conclusion` is empty if there are no good test images.
    """

    limit: Limit
    rejected: int
    good: int
    conclusion: str


def observed_limits(detector: Detector, images: list[JudgedImage]) -> list[Observed]:
    calibration = detector.header.calibration
    if calibration is None:
        return []
    scores = np.array(scores_of(images, good=True))
    found = []
    for wanted in sorted({*_WANTED, calibration.false_reject}):
        limit = calibration.thresholds(false_reject=wanted).reject
        rejected = int((scores > limit.threshold).sum())
        found.append(Observed(limit, rejected, len(scores), _conclusion(limit, rejected, scores)))
    return found


def _conclusion(limit: Limit, rejected: int, scores: np.ndarray) -> str:
    """Whether the good test images agree with the bound, which comes from other images."""
    if not len(scores):
        return ""
    if rejected <= limit.bound * len(scores):
        return "within the bound"
    chance = chance_of_at_least(rejected, len(scores), limit.bound)
    if chance > 1 - CONFIDENCE:
        return f"above the bound, possibly by chance ({percent(chance)})"
    return f"not like the calibration images (by chance only {percent(chance)})"


def scores_of(images: list[JudgedImage], *, good: bool) -> list[float]:
    """The scores of the judged good or defective images."""
    return [i.score for i in images if i.score is not None and i.good == good]


def confusion(images: list[JudgedImage]) -> list[tuple[str, list[int]]]:
    """For each label the number of images per verdict of `VERDICTS`; empty without thresholds."""
    if not images or not Tally.of(images).calibrated:
        return []
    counts = Counter((image.good, image.verdict) for image in images)
    return [
        (name, [counts[label, verdict] for verdict in VERDICTS])
        for name, label in (("good", True), ("defective", False))
    ]


@dataclass(frozen=True)
class DefectRow:
    """A type of defect: its number of images per verdict of `VERDICTS` (empty without thresholds)
    and the metrics that exist per type.
    """

    name: str
    count: int
    verdicts: list[int]
    figures: list[float | None]


def by_type(metrics: dict[str, Any], images: list[JudgedImage]) -> list[DefectRow]:
    rows = []
    for defect in sorted({image.defect for image in images if not image.good}):
        verdicts = Counter(image.verdict for image in images if image.defect == defect)
        rows.append(
            DefectRow(
                defect,
                sum(verdicts.values()),
                [verdicts[v] for v in VERDICTS] if None not in verdicts else [],
                [metrics.get(f"{metric.name}:{defect}") for metric in METRICS_BY_TYPE],
            )
        )
    return rows
