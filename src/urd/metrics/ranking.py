"""Ranking metrics in rank form: sort the negatives once, search the positives in them.

Exact for every set of scores, with ties, and without a grid of thresholds. `negatives` and
`positives` are flat arrays of scores; with one of them empty a metric is undefined: NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranks:
    """Where the positives stand among the negatives, highest positive score first.

    Attributes:
        order: sorts the positives, highest first.
        above: share of negatives strictly above each sorted positive.
        at_least: share of negatives at or above it.
        last_of_tie: true at the last of equal positives, where a threshold may be put.
        negative_count: how many negatives there are.
    """

    order: NDArray[np.intp]
    above: Floats
    at_least: Floats
    last_of_tie: NDArray[np.bool_]
    negative_count: int


def rank(sorted_negatives: Scores, positives: Scores) -> Ranks:
    """Search `positives` in `sorted_negatives` (ascending)."""
    order = np.argsort(positives)[::-1]
    scores = positives[order]
    n = len(sorted_negatives)
    above = (n - np.searchsorted(sorted_negatives, scores, side="right")) / max(n, 1)
    at_least = (n - np.searchsorted(sorted_negatives, scores, side="left")) / max(n, 1)
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    return Ranks(order, above, at_least, last, n)


def area_below(ranks: Ranks, weights: Floats, limit: float = 1.0) -> float:
    """Area up to `limit`, divided by it, under the curve of weighted true-positive share against
    false-positive share; `weights` belong to the sorted positives and sum to 1.

    A positive lifts the curve while the false-positive share goes from `above` to `at_least`: at
    once where no negative ties with it, else linearly, which is the trapezoidal rule.
    """
    below_limit = np.clip(limit - ranks.above, 0, None)
    width = ranks.at_least - ranks.above
    full = limit - ranks.above - width / 2
    cut = below_limit**2 / (2 * np.where(width > 0, width, 1))
    area = np.where(ranks.at_least <= limit, full, cut)
    area = np.where(ranks.above >= limit, 0.0, area)
    return float(np.dot(weights, area)) / limit


def auroc_from(ranks: Ranks) -> float:
    """Chance that a positive scores above a negative, ties counted half."""
    if not len(ranks.order) or not ranks.negative_count:
        return float("nan")
    return float(1 - np.mean((ranks.above + ranks.at_least) / 2))


def precision_recall(ranks: Ranks) -> tuple[Floats, Floats]:
    """Precision and recall at every distinct positive score, highest first.

    Between these thresholds only false positives are added: no metric here needs them.
    """
    true_positives = np.arange(1, len(ranks.order) + 1, dtype=np.float64)[ranks.last_of_tie]
    false_positives = ranks.at_least[ranks.last_of_tie] * ranks.negative_count
    precision = true_positives / (true_positives + false_positives)
    return precision, true_positives / len(ranks.order)


def average_precision_from(ranks: Ranks) -> float:
    """Sum of precision times step in recall, as scikit-learn defines it."""
    if not len(ranks.order):
        return float("nan")
    precision, recall = precision_recall(ranks)
    return float(np.dot(precision, np.diff(recall, prepend=0.0)))


def f1_max_from(ranks: Ranks) -> float:
    """The largest F1 over all thresholds: an optimistic figure, its threshold knows the labels."""
    if not len(ranks.order):
        return float("nan")
    precision, recall = precision_recall(ranks)
    return float(np.max(2 * precision * recall / (precision + recall)))


def auroc(negatives: Scores, positives: Scores) -> float:
    """Area under the ROC curve."""
    return auroc_from(rank(np.sort(negatives), positives))


def average_precision(negatives: Scores, positives: Scores) -> float:
    """Average precision; see `average_precision_from`."""
    return average_precision_from(rank(np.sort(negatives), positives))


def f1_max(negatives: Scores, positives: Scores) -> float:
    """Largest F1; see `f1_max_from`."""
    return f1_max_from(rank(np.sort(negatives), positives))
