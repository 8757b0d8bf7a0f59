"""Compares an exported file with torch on real images, and measures its speed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from urd.data import UnreadableImage, read_rgb, resize_rgb
from urd.detector import Detector
from urd.engines.base import Engine
from urd.errors import NotJudged, UrdError, UsageError
from urd.inspection.calibration import Thresholds
from urd.inspection.prediction import Prediction
from urd.system.files import printable
from urd.system.progress import note

_ROUNDS = 12
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Parity:
    """Differences between an exported file and torch in float32, over some images.

    Attributes:
        images: the number of images.
        map_difference: the largest difference between values of the maps.
        score_difference: the largest relative difference between scores.
        verdicts_changed: paths of images with another verdict; each side has its own thresholds.
        changes: from and to which verdict, for each of them.
        near: images whose score is so close to a threshold that `score_difference` could change
            the verdict.
        torch_ms, exported_ms: median time for one image, batch 1.
    """

    images: int
    map_difference: float
    score_difference: float
    verdicts_changed: list[str]
    changes: list[str]
    near: int
    torch_ms: float
    exported_ms: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    detector: Detector, exported: Detector, paths: Sequence[Path], size: tuple[int, int] | None
) -> Parity:
    """Judge the images with torch, and with the exported file as another program would use it.

    Args:
        size: input size (H, W) of the file, to which images are resized; `None`: any size.

    Raises:
        UsageError: no image can be read.
        UrdError: torch or the file gives NaN or Inf for an image.
    """
    thresholds = exported.thresholds() if detector.thresholds() else None
    differences, scores, changed, changes, judged = [], [], [], [], []
    for path, image in decoded(detector, paths, size):
        expected = detector.predict(image)
        found = _found(exported.engine, image, path)
        differences.append(float(np.abs(found.anomaly_map - expected.anomaly_map).max()))
        scores.append(abs(found.score - expected.score) / max(abs(expected.score), 1e-12))
        judged.append(found.score)
        if thresholds is not None and (now := thresholds.verdict(found.score)) != expected.verdict:
            changed.append(printable(path))
            changes.append(f"{expected.verdict} to {now}")
    if not scores:
        raise UsageError("none of the images to compare on can be read")
    pixels = np.zeros((1, *(size or detector.config.image_size), 3), np.uint8)
    return Parity(
        len(scores),
        max(differences),
        max(scores),
        changed,
        changes,
        _near(judged, thresholds, max(scores)),
        _latency(detector.engine, np.zeros((1, *detector.config.image_size, 3), np.uint8)),
        _latency(exported.engine, pixels),
    )


def _near(scores: Sequence[float], thresholds: Thresholds | None, difference: float) -> int:
    """How many scores lie within a relative difference of a threshold."""
    if thresholds is None:
        return 0
    limits = {thresholds.review.threshold, thresholds.reject.threshold}
    return sum(
        any(abs(score - limit) <= difference * abs(score) for limit in limits) for score in scores
    )


def _found(engine: Engine, image: Pixels, path: Path) -> Prediction:
    maps, (score,) = engine(image[None], None)
    try:
        return Prediction(float(score), maps[0], image.shape[:2], path)
    except NotJudged as error:
        raise UrdError(f"the exported file does not work: {error}") from error


def decoded(
    detector: Detector, paths: Sequence[Path], size: tuple[int, int] | None
) -> Iterator[tuple[Path, Pixels]]:
    """(H, W, 3) of each readable image, at `size`, or at its own size for `None`."""
    for path in paths:
        try:
            image = read_rgb(path, reading=detector.reading)
        except UnreadableImage as error:
            note(f"skipped {error}")
            continue
        yield path, np.asarray(image) if size is None else resize_rgb(image, size)


def _latency(engine: Engine, pixels: Pixels) -> float:
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        engine(pixels, None)
        times.append(time.perf_counter() - began)
    return 1000 * median(times[2:])
