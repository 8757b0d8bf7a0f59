"""Per-region overlap (PRO): every defect region counts the same, however small.

Bergmann et al., IJCV 2021: regions are 8-connected; PRO at a threshold is the mean over all regions
of the set of the share of the region at or above it; AUPRO is the area under PRO against the
false-positive rate of all pixels outside the regions, up to a limit, divided by the limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from urd.metrics.ranking import Floats, Ranks, Scores, area_below, rank

FPR_LIMIT = 0.3
Mask = NDArray[np.bool_]


def label_regions(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Number the 8-connected regions of an (H, W) mask 1, 2, ...; how many there are."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return labels.astype(np.int32, copy=False), count - 1


def region_weights(masks: Sequence[Mask]) -> Floats:
    """For every pixel in a mask, image by image in row order: 1 / (regions * pixels of its region).

    The weights sum to 1; with them PRO is a weighted share of the positives.
    """
    weights, regions = [], 0
    for mask in masks:
        labels, count = label_regions(mask)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        weights.append(1.0 / sizes[labels[mask]])
        regions += count
    return np.concatenate(weights) / max(regions, 1) if weights else np.empty(0)


def aupro_from(ranks: Ranks, weights: Floats, limit: float = FPR_LIMIT) -> float:
    """Exact AUPRO; `weights` as `region_weights` gives them, before sorting."""
    if not len(ranks.order) or not ranks.negative_count:
        return float("nan")
    return area_below(ranks, weights[ranks.order], limit)


def aupro(maps: Sequence[Scores], masks: Sequence[Mask], limit: float = FPR_LIMIT) -> float:
    """Exact AUPRO over a whole set of (H, W) maps and masks."""
    negatives = np.concatenate([m[~mask] for m, mask in zip(maps, masks, strict=True)])
    positives = np.concatenate([m[mask] for m, mask in zip(maps, masks, strict=True)])
    return aupro_from(rank(np.sort(negatives), positives), region_weights(masks), limit)


def aupro_200_thresholds(anomaly_map: Scores, mask: Mask) -> float:
    """What the papers of the RD family print as AUPRO, of one defective image, for comparison only.

    200 thresholds evenly spaced over the map's own range; the part of the curve with a
    false-positive rate under 0.3, whose rates are divided by the largest of them.
    """
    if mask.all() or not mask.any():
        return float("nan")
    low, high = float(anomaly_map.min()), float(anomaly_map.max())
    thresholds = low + (high - low) * np.arange(200) / 200
    negatives = np.sort(anomaly_map[~mask])
    rates = 1 - np.searchsorted(negatives, thresholds, side="right") / len(negatives)
    overlaps = np.zeros(len(thresholds))
    labels, count = label_regions(mask)
    for region in range(1, count + 1):
        scores = np.sort(anomaly_map[labels == region])
        overlaps += 1 - np.searchsorted(scores, thresholds, side="right") / len(scores)
    kept = rates < FPR_LIMIT
    rates, overlaps = rates[kept][::-1], overlaps[kept][::-1] / max(count, 1)
    if not len(rates) or rates[-1] == 0:
        return float("nan")
    return float(np.trapezoid(overlaps, rates / rates[-1]))
