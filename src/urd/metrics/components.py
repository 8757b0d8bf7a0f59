"""Per-region overlap (PRO): every connected component of a mask counts the same, however small.

Bergmann et al., IJCV 2021: components (the paper's regions) are 8-connected; PRO at a threshold is
the mean over all components of the set of the share of the component at or above it; AUPRO is the
area under PRO against the false-positive rate of all pixels outside the components, up to a limit,
divided by the limit.
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
    """Number the 8-connected components of an (H, W) mask 1, 2, ...; how many there are."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return labels.astype(np.int32, copy=False), count - 1


def component_shares(mask: Mask) -> tuple[Floats, int]:
    """For every pixel in a mask, in row order: 1 / pixels of its component; and how many there are.

    Divided by the number of components of a set, the shares of its masks are the weights with which
    PRO is a weighted share of the positives.
    """
    labels, count = label_components(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    return 1.0 / sizes[labels[mask]], count


def aupro_from(ranks: Ranks, shares: Floats, components: int, limit: float = FPR_LIMIT) -> float:
    """Exact AUPRO; `shares` of all masks as `component_shares` gives them, before sorting.

    With the shares of some components set to 0, and the number of the others, it is theirs alone.
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
    """What the papers of the RD family print as AUPRO, of one defective image, for comparison only.

    200 thresholds evenly spaced over the map's own range; the part of the curve with a
    false-positive rate under 0.3, whose rates are divided by the largest of them.

    Args:
        outside: (H, W) bool, the pixels that are good; `None`: all that are not in the mask.
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
