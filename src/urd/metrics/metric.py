"""The registry of metrics: one entry each; every list of metrics comes from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from urd.metrics.bootstrap import Resampled, aupro_of
from urd.metrics.components import FPR_LIMIT, aupro_from
from urd.metrics.images import Survey
from urd.metrics.ranking import (
    Floats,
    Ranks,
    auroc_from,
    average_precision_from,
    f1_max_from,
)


@dataclass(frozen=True)
class Ranked:
    """The input of a metric: a test set, ranked by images or by pixels.

    Attributes:
        ranks: scores of defective images among those of good images; or scores of pixels in the
            masks, in the order of the surveys, among those of pixels outside.
        surveys: one for each image.
    """

    ranks: Ranks
    surveys: Sequence[Survey]

    @property
    def shares(self) -> Floats:
        """The component shares of all pixels in masks."""
        return np.concatenate([survey.shares for survey in self.surveys])

    @property
    def components(self) -> int:
        """The number of components in all masks."""
        return sum(survey.components for survey in self.surveys)


@dataclass(frozen=True)
class Metric:
    """One figure of a test set.

    Attributes:
        name: its key in results.
        title: its name for people.
        needs_masks: it uses pixels; otherwise it uses image scores.
        compute: its value, NaN if undefined; called only if both classes have members.
        resampled: its values on the resamples, (R,), NaN where undefined.
        by_type: it is also reported for each type of defect.
        tabled: it is a column in the tables of `urd benchmark`.
    """

    name: str
    title: str
    needs_masks: bool
    compute: Callable[[Ranked], float]
    resampled: Callable[[Resampled], Floats]
    by_type: bool = False
    tabled: bool = False


def _ranking(compute: Callable[[Ranks], float]) -> Callable[[Ranked], float]:
    return lambda found: compute(found.ranks)


def _drawn_ranking(name: str) -> Callable[[Resampled], Floats]:
    return lambda drawn: drawn.ranking[name]


def _overlap(limit: float) -> Callable[[Ranked], float]:
    return lambda found: aupro_from(found.ranks, found.shares, found.components, limit)


def _drawn_overlap(limit: float) -> Callable[[Resampled], Floats]:
    return lambda drawn: aupro_of(drawn.curves, drawn.weights, limit)


def _per_image(found: Ranked) -> float:
    values = np.array([survey.per_image for survey in found.surveys])
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


_AUROC = _ranking(auroc_from), _drawn_ranking("auroc")
_AP = _ranking(average_precision_from), _drawn_ranking("ap")
_F1_MAX = _ranking(f1_max_from), _drawn_ranking("f1max")
METRICS = {
    metric.name: metric
    for metric in (
        Metric("image_auroc", "image AUROC", False, *_AUROC, by_type=True, tabled=True),
        Metric("image_ap", "image AP", False, *_AP, tabled=True),
        Metric("image_f1max", "image F1-max", False, *_F1_MAX),
        Metric("pixel_auroc", "pixel AUROC", True, *_AUROC, tabled=True),
        Metric("pixel_ap", "pixel AP", True, *_AP, tabled=True),
        Metric("pixel_f1max", "pixel F1-max", True, *_F1_MAX),
        Metric(
            "aupro",
            "AUPRO",
            True,
            _overlap(FPR_LIMIT),
            _drawn_overlap(FPR_LIMIT),
            by_type=True,
            tabled=True,
        ),
        Metric("aupro_0.05", "AUPRO, FPR to 0.05", True, _overlap(0.05), _drawn_overlap(0.05)),
        Metric("aupro_0.01", "AUPRO, FPR to 0.01", True, _overlap(0.01), _drawn_overlap(0.01)),
        Metric(
            "aupro_per_image",
            "AUPRO per image (200 thr.)",
            True,
            _per_image,
            lambda drawn: drawn.mean_per_image,
            tabled=True,
        ),
    )
}
