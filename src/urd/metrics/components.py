"""Per-region overlap (PRO): each connected component of a mask has the same weight.

Bergmann et al., IJCV 2021. Components (regions in the paper) are 8-connected. The overlap of a
component at a threshold is the share of its pixels at or above it. PRO is the mean overlap of all
components of the set. AUPRO is the area under PRO against the false-positive rate of all pixels
outside the components, up to a limit, divided by the limit.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from urd.metrics.ranking import Floats, Ranks, Scores, area_below, rank

FPR_LIMIT = 0.3
Mask = NDArray[np.bool_]


def label_components(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Label the 8-connected components of an (H, W) mask 1, 2, ...; return labels and count."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return labels.astype(np.int32, copy=False), count - 1


def component_shares(mask: Mask) -> tuple[Floats, int]:
    """1 / size of its component for each pixel in a mask, in row order; and the component count.

    These shares, divided by the number of components of a set, are weights of the positive pixels:
    PRO is the weighted share of positives at or above a threshold.
    """
    labels, count = label_components(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    return 1.0 / sizes[labels[mask]], count


def aupro_from(ranks: Ranks, shares: Floats, components: int, limit: float = FPR_LIMIT) -> float:
    """Exact AUPRO; `shares` are those of all masks from `component_shares`, not sorted.

    For a part of the components, set the other shares to 0 and pass the number of that part.
    """
    if ranks.undefined or not components:
        return float("nan")
    return area_below(ranks, shares[ranks.order] / components, limit)


def aupro(maps: Sequence[Scores], masks: Sequence[Mask], limit: float = FPR_LIMIT) -> float:
    """Exact AUPRO over a whole set of (H, W) maps and masks."""
    masks = [np.asarray(mask, bool) for mask in masks]
    pairs = list(zip(maps, masks, strict=True))
    positives = np.concatenate([m[mask] for m, mask in pairs])
    shares, counts = zip(*(component_shares(mask) for mask in masks), strict=True)
    ranks = rank(positives, [lambda: np.concatenate([m[~mask] for m, mask in pairs])])
    return aupro_from(ranks, np.concatenate(shares), sum(counts), limit)


def aupro_200_thresholds(anomaly_map: Scores, mask: Mask, outside: Mask | None = None) -> float:
    """AUPRO of one defective image as papers of the RD family print it; only for comparison.

    It uses 200 thresholds evenly spaced over the map's own range, and the part of the curve with a
    false-positive rate under 0.3; these rates are divided by the largest of them.

    Args:
        outside: (H, W) bool, the good pixels; `None`: all pixels outside the mask.
    """
    outside = ~mask if outside is None else outside
    if not outside.any() or not mask.any():
        return float("nan")
    counted = anomaly_map[mask | outside]
    low, high = float(counted.min()), float(counted.max())
    thresholds = low + (high - low) * np.arange(200) / 200
    negatives = np.sort(anomaly_map[outside])
    rates = 1 - np.searchsorted(negatives, thresholds, side="right") / len(negatives)
    overlaps = np.mean(
        [
            1 - np.searchsorted(np.sort(scores), thresholds, side="right") / len(scores)
            for scores in _scores_of_components(anomaly_map, mask)
        ],
        axis=0,
    )
    kept = rates < FPR_LIMIT
    rates, overlaps = rates[kept][::-1], overlaps[kept][::-1]
    if not len(rates) or rates[-1] == 0:
        return float("nan")
    return float(np.trapezoid(overlaps, rates / rates[-1]))


def _scores_of_components(anomaly_map: Scores, mask: Mask) -> list[Scores]:
    labels, _ = label_components(mask)
    inside = labels[mask]
    order = np.argsort(inside, kind="stable")
    borders = np.flatnonzero(np.diff(inside[order])) + 1
    return np.split(anomaly_map[mask][order], borders)
