"""Curves for drawing: exact points, but only some of them. Metrics do not use them."""

from __future__ import annotations

import numpy as np

from urd.metrics.ranking import Floats, Ranks

_POINTS = 400
Curve = tuple[Floats, Floats]  # x: false-positive rates; y: true-positive rates or PRO


def roc_from(ranks: Ranks) -> Curve:
    """False- and true-positive rates, rising from (0, 0) to (1, 1); empty if a class is empty."""
    return _curve(ranks, np.full(len(ranks.order), 1 / max(1, len(ranks.order))))


def pro_from(ranks: Ranks, shares: Floats, components: int) -> Curve:
    """False-positive rates of the pixels, and the mean overlap of components (PRO) at these rates.

    Args:
        shares: those of all masks from `component_shares`, not sorted.
    """
    return _curve(ranks, shares[ranks.order] / max(1, components))


def _curve(ranks: Ranks, weights: Floats) -> Curve:
    """A curve through all distinct positives; `weights` of the sorted positives sum to 1.

    The curve rises at a positive and runs flat between two of them.
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


def _thinned(x: Floats, y: Floats) -> Curve:
    """At most `_POINTS` of the points, evenly spaced in x + y."""
    if len(x) <= _POINTS:
        return x, y
    along = (x + y) / 2
    index = np.unique(np.searchsorted(along, np.linspace(0, 1, _POINTS)).clip(0, len(x) - 1))
    return x[index], y[index]
