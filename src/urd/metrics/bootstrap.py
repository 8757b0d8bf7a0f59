"""Confidence intervals: how the metrics would vary with other test images of the same kind.

The bootstrap (Efron, 1979) draws images again with replacement, good and defective ones apart, so
that every resample has both. It draws images, not pixels: pixels of one image are not independent,
whole images nearly are. A resample is one weight per image, and every curve is linear in these
weights. So each image is counted once at a fixed set of thresholds, and a resample costs one matrix
product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from urd.metrics.images import Survey, TestImage, load_checked
from urd.metrics.ranking import Floats, Scores, map_in_threads

CONFIDENCE = 0.95
THRESHOLDS = 1024
_BATCH = 64  # resamples evaluated at once: bounds the memory, not the result


@dataclass(frozen=True)
class Curves:
    """Counts for each of I images at 2 T falling thresholds: just above and at each of T scores.

    Attributes:
        negatives, positives: number of negatives and positives above, (I, 2 T).
        shares: share of a component's area above, summed over the image's components, (I, 2 T).
        negative_count, positive_count, component_count: totals of each image, (I,).
    """

    negatives: Floats
    positives: Floats
    shares: Floats
    negative_count: Floats
    positive_count: Floats
    component_count: Floats


@dataclass(frozen=True)
class Resampled:
    """A test set whose images are drawn again R times.

    Attributes:
        curves: counts of its I images or of their pixels.
        weights: how often each resample has each image, (R, I).
        per_image: AUPRO by 200 thresholds of each image, NaN without a mask, (I,).
    """

    curves: Curves
    weights: Floats
    per_image: Floats

    @cached_property
    def ranking(self) -> dict[str, Floats]:
        """The metrics of `ranking_of`, computed once together."""
        return ranking_of(self.curves, self.weights)

    @property
    def mean_per_image(self) -> Floats:
        """Mean of `per_image` over the drawn images with a mask, (R,)."""
        known = ~np.isnan(self.per_image)
        drawn = self.weights[:, known].sum(axis=1)
        return self.weights[:, known] @ self.per_image[known] / np.where(drawn > 0, drawn, np.nan)


def image_curves(scores: Scores, defective: np.ndarray) -> Curves:
    """Counts of whole images: each image counts as one pixel with the image's score."""
    of_defective = scores[defective]
    thresholds = pick_thresholds(of_defective, np.ones(len(of_defective)))
    above = np.array([counts_above(scores[i : i + 1], thresholds) for i in range(len(scores))])
    above = above.reshape(len(scores), 2 * len(thresholds))
    positive = defective[:, None]
    return Curves(
        above * ~positive,
        above * positive,
        np.zeros_like(above),
        (~defective).astype(float),
        defective.astype(float),
        np.zeros(len(scores)),
    )


def pixel_curves(
    images: Sequence[TestImage],
    surveys: Sequence[Survey],
    positives: Scores,
    count: int = THRESHOLDS,
) -> Curves:
    shares = np.concatenate([s.shares for s in surveys])
    thresholds = pick_thresholds(positives, shares, count)

    def negatives_above(image: TestImage) -> Floats:
        anomaly_map, _, outside = load_checked(image)
        return counts_above(anomaly_map[outside], thresholds)

    return Curves(
        np.stack(list(map_in_threads(negatives_above, images))),
        np.stack([counts_above(s.positives, thresholds) for s in surveys]),
        np.stack([counts_above(s.positives, thresholds, s.shares) for s in surveys]),
        np.array([s.negative_count for s in surveys], float),
        np.array([len(s.positives) for s in surveys], float),
        np.array([s.components for s in surveys], float),
    )


def pick_thresholds(positives: Scores, shares: Floats, count: int = THRESHOLDS) -> Scores:
    """At most `count` of the distinct positive scores, falling.

    If there are few, all are used and the curves are exact. Otherwise they are evenly spaced in the
    mean of two shares: of positive pixels, and of component areas (`shares`), at or above.
    """
    order = np.argsort(positives)[::-1]
    scores = positives[order]
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    if np.count_nonzero(last) <= count:
        return scores[last]
    reached = np.cumsum(shares[order] / shares.sum() + 1 / len(scores)) / 2
    index = np.searchsorted(reached, np.linspace(0, 1, count), side="left")
    return np.unique(scores[np.minimum(index, len(scores) - 1)])[::-1]


def counts_above(scores: Scores, thresholds: Scores, weights: Floats | None = None) -> Floats:
    """Number of scores above, and at or above, each threshold, interleaved, (2 T,).

    With `weights`: the sums of their weights.
    """
    order = np.argsort(scores) if weights is not None else slice(None)
    ascending = scores[order] if weights is not None else np.sort(scores)
    places = np.stack(
        [
            np.searchsorted(ascending, thresholds, side="right"),
            np.searchsorted(ascending, thresholds, side="left"),
        ],
        axis=1,
    ).ravel()
    if weights is None:
        return (len(ascending) - places).astype(np.float64)
    sums = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    return sums[places]


def resample(defective: np.ndarray, resamples: int, generator: np.random.Generator) -> Floats:
    """Draw how often each resample has each image, (resamples, I); both classes apart."""
    weights = np.zeros((resamples, len(defective)))
    for stratum in (np.flatnonzero(defective), np.flatnonzero(~defective)):
        if len(stratum):
            even = np.full(len(stratum), 1 / len(stratum))
            weights[:, stratum] = generator.multinomial(len(stratum), even, size=resamples)
    return weights


def ranking_of(curves: Curves, weights: Floats) -> dict[str, Floats]:
    """AUROC, AP and F1-max of each resample, by the names `auroc`, `ap`, `f1max`."""
    parts = [_ranking_of(curves, batch) for batch in _batches(weights)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def aupro_of(curves: Curves, weights: Floats, limit: float) -> Floats:
    """AUPRO of each resample up to a false-positive rate of `limit`, (R,)."""
    found = []
    for batch in _batches(weights):
        rate = _ratio(batch @ curves.negatives, batch @ curves.negative_count)
        overlap = _ratio(batch @ curves.shares, batch @ curves.component_count)
        found.append(_area(rate, overlap, limit))
    return np.concatenate(found)


def interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of the resamples; NaN if the metric is undefined in over 5 % of them."""
    known = values[~np.isnan(values)]
    if len(known) < CONFIDENCE * len(values):
        return float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def _ranking_of(curves: Curves, weights: Floats) -> dict[str, Floats]:
    false, true = weights @ curves.negatives, weights @ curves.positives
    recall = _ratio(true, weights @ curves.positive_count)
    rate = _ratio(false, weights @ curves.negative_count)
    at = slice(1, None, 2)  # counts at each threshold; even places: just above it
    precision = true[:, at] / np.maximum(true[:, at] + false[:, at], 1e-12)
    steps = np.diff(recall[:, at], axis=1, prepend=0.0)
    f1 = 2 * precision * recall[:, at] / np.maximum(precision + recall[:, at], 1e-12)
    undefined = np.isnan(rate[:, 0]) | np.isnan(recall[:, 0])
    return {
        "auroc": _area(rate, recall, 1.0),
        "ap": np.where(undefined, np.nan, (precision * steps).sum(axis=1)),
        "f1max": np.where(undefined, np.nan, f1.max(axis=1)),
    }


def _area(x: Floats, y: Floats, limit: float) -> Floats:
    """Area under each row's polygon from (0, 0) to (1, 1), up to x = limit, divided by limit."""
    ends = np.zeros((len(x), 1)), np.ones((len(x), 1))
    x = np.concatenate([ends[0], x, ends[1]], axis=1)
    y = np.concatenate([ends[0], y, ends[1]], axis=1)
    width = np.diff(x, axis=1)
    kept = np.clip(limit - x[:, :-1], 0, width)
    slope = np.diff(y, axis=1) / np.where(width > 0, width, 1)
    return (kept * (y[:, :-1] + slope * kept / 2)).sum(axis=1) / limit


def _ratio(values: Floats, totals: Floats) -> Floats:
    """Values divided by their totals; NaN for a resample whose total is 0."""
    return values / np.where(totals > 0, totals, np.nan)[:, None]


def _batches(weights: Floats) -> list[Floats]:
    return [weights[i : i + _BATCH] for i in range(0, len(weights), _BATCH)]
