"""Compare two detectors on the same images: which one is better, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urd.errors import UsageError
from urd.metrics.bootstrap import interval, resample
from urd.metrics.images import TestImage
from urd.metrics.metric import METRICS
from urd.metrics.protocol import enough_for_resamples, measure, resampled


@dataclass(frozen=True)
class Difference:
    """One metric of two detectors A and B.

    Attributes:
        a, b: its values.
        low, high: 95 % interval of b - a over other test images of the same kind; `None`: without
            resamples, or undefined.
    """

    name: str
    title: str
    a: float
    b: float
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float:
        return self.b - self.a

    @property
    def better(self) -> str | None:
        """`A` or `B`, if the interval does not contain 0."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return None
        return "B" if self.low > 0 else "A"


def compare(
    a: Sequence[TestImage],
    b: Sequence[TestImage],
    *,
    has_masks: bool = True,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """The metrics that both define, by the paired bootstrap.

    Each resample draws the same images for both. So what makes images hard for both is not in the
    interval, and it is much narrower than those of the two detectors alone.

    Args:
        a, b: the same images in the same order, with the maps of each detector. Sizes of maps may
            differ.

    Raises:
        UsageError: the labels differ, or as `urd.metrics.evaluate`.
    """
    if [image.defect for image in a] != [image.defect for image in b]:
        raise UsageError("the two sides have other test images: each image needs a map on both")
    found = [measure(images, has_masks=has_masks) for images in (a, b)]
    known = [
        metric
        for name, metric in METRICS.items()
        if all(side.figures.get(name) is not None for side in found)
    ]
    limits: dict[str, tuple[float, float]] = {}
    defective = np.array([image.defective for image in a], bool)
    if resamples and enough_for_resamples(defective):
        weights = resample(defective, resamples, np.random.default_rng(seed))
        of_a, of_b = (
            dict(resampled(known, images, side.images.surveys, weights))
            for images, side in zip((a, b), found, strict=True)
        )
        limits = {name: interval(of_b[name] - of_a[name]) for name in of_a}
    return [
        Difference(
            metric.name,
            metric.title,
            found[0].figures[metric.name],
            found[1].figures[metric.name],
            *(None if np.isnan(v) else v for v in limits.get(metric.name, (np.nan, np.nan))),
        )
        for metric in known
    ]
