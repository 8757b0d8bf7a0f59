"""Curves to be drawn: exact points, thinned out for the eye. Metrics are never taken from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from urd.metrics.ranking import Floats, Ranks, Scores, rank, rank_arrays
from urd.metrics.regions import Mask, region_shares

_POINTS = 400
_IMAGES = 64  # whose pixels are sorted together


def roc_curve(negatives: Scores, positives: Scores) -> tuple[Floats, Floats]:
    """False- and true-positive rates, rising from (0, 0) to (1, 1); empty if a class is empty."""
    ranks = rank_arrays(negatives, positives)
    return _curve(ranks, np.full(len(positives), 1 / max(1, len(positives))))


def pro_curve(
    maps: Sequence[Scores], masks: Sequence[Mask], inspected: Sequence[Mask | None] | None = None
) -> tuple[Floats, Floats]:
    """False-positive rates of the pixels and mean overlap of the regions (PRO) at them.

    Args:
        maps, masks: (H, W) each. inspected: the pixels that count; `None`: all.
    """
    places = [
        np.ones(mask.shape, bool) if region is None else region
        for mask, region in zip(masks, inspected or [None] * len(masks), strict=True)
    ]
    marked = [mask & place for mask, place in zip(masks, places, strict=True)]
    shares, counts = zip(*(region_shares(mask) for mask in marked), strict=True)
    positives = np.concatenate([m[mask] for m, mask in zip(maps, marked, strict=True)])

    def negatives(part: slice) -> Scores:
        outside = zip(maps[part], masks[part], places[part], strict=True)
        return np.concatenate([m[~mask & place] for m, mask, place in outside])

    parts = (slice(first, first + _IMAGES) for first in range(0, len(maps), _IMAGES))
    ranks = rank(positives, [partial(negatives, part) for part in parts])
    return _curve(ranks, np.concatenate(shares)[ranks.order] / max(1, sum(counts)))


def _curve(ranks: Ranks, weights: Floats) -> tuple[Floats, Floats]:
    """`weights` belong to the sorted positives and sum to 1.

    At a positive the curve rises; between two of them false positives are added.
    """
    if ranks.undefined:
        return np.empty(0), np.empty(0)
    above = ranks.count_above[ranks.last_of_tie] / ranks.negative_count
    at_least = ranks.count_at_least[ranks.last_of_tie] / ranks.negative_count
    reached = np.cumsum(weights)[ranks.last_of_tie]
    before = np.append(0.0, reached[:-1])
    x = np.concatenate([[0.0], np.stack([above, at_least], 1).ravel(), [1.0]])
    y = np.concatenate([[0.0], np.stack([before, reached], 1).ravel(), [1.0]])
    return _thinned(x, y)


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """At most `_POINTS` of the points, evenly spaced along both axes together."""
    if len(x) <= _POINTS:
        return x, y
    along = (x + y) / 2
    index = np.unique(np.searchsorted(along, np.linspace(0, 1, _POINTS)).clip(0, len(x) - 1))
    return x[index], y[index]
