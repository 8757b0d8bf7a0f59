"""Ranking metrics from ranks: sort the negatives once, and search the positives in them.

The results are exact for all scores, also with ties; there is no grid of thresholds. The negatives
may come in chunks: the ranks of a positive in the chunks add up, so only the positives and one
chunk per thread must be in memory. If a class is empty, a metric is undefined: NaN.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from urd.errors import UsageError
from urd.system.threads import map_ahead

Scores = NDArray[np.floating]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """The ranks of the positives among the negatives, highest positive score first.

    Attributes:
        order: indices that sort the positives, highest first.
        count_above: number of negatives strictly above each sorted positive.
        count_at_least: number of negatives at or above it.
        last_of_tie: true at the last of equal positives; a threshold cannot separate the others.
        negative_count: number of all negatives.
    """

    order: NDArray[np.intp]
    count_above: Counts
    count_at_least: Counts
    last_of_tie: NDArray[np.bool_]
    negative_count: int

    @property
    def undefined(self) -> bool:
        """Whether one of the two classes is empty."""
        return not len(self.order) or not self.negative_count


def rank(positives: Scores, negatives: Iterable[Callable[[], Scores]]) -> Ranks:
    """Rank `positives` among the negatives; each function in `negatives` loads one chunk.

    Threads load, sort and search the chunks; a chunk is sorted in place.
    """
    order = np.argsort(positives)[::-1]
    scores = positives[order]
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    distinct = scores[last][::-1]  # ascending: neighbours in the search stay in the cache

    not_above = np.zeros(len(distinct), np.int64)
    below = np.zeros(len(distinct), np.int64)
    lock = threading.Lock()

    def search(load: Callable[[], Scores]) -> int:
        chunk = load()
        chunk.sort()
        add(not_above, np.searchsorted(chunk, distinct, side="right"))
        add(below, np.searchsorted(chunk, distinct, side="left"))
        return len(chunk)

    def add(total: Counts, places: Counts) -> None:
        with lock:  # integers: the order of threads cannot change the sum
            total += places

    total = sum(map_in_threads(search, negatives))
    above, at_least = total - not_above, total - below
    # Expand from distinct ascending scores to all scores in descending order.
    group = np.cumsum(np.append(False, last[:-1]))[: len(scores)]
    return Ranks(order, above[::-1][group], at_least[::-1][group], last, total)


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` in order, in up to 8 threads, that computes only a few items ahead."""
    most = 8
    depth = min(most, os.cpu_count() or 1) + 1
    yield from map_ahead(function, items, depth=depth, most_threads=most)


def area_below(ranks: Ranks, weights: Floats, limit: float = 1.0) -> float:
    """Area under the curve of weighted true-positive rate over false-positive rate.

    It is taken up to a false-positive rate of `limit` and divided by `limit`; `weights` of the
    sorted positives sum to 1.

    A positive raises the curve while the false-positive rate goes from `above` to `at_least`: in
    one step if no negative ties with it, else linearly (the trapezoidal rule). So each positive
    adds its weight times the width from there to `limit`.
    """
    above = ranks.count_above / ranks.negative_count
    at_least = ranks.count_at_least / ranks.negative_count
    below_limit = np.clip(limit - above, 0, None)
    width = at_least - above
    full = limit - above - width / 2
    cut = below_limit**2 / (2 * np.where(width > 0, width, 1))
    area = np.where(at_least <= limit, full, cut)
    area = np.where(above >= limit, 0.0, area)
    return float(np.dot(weights, area)) / limit


def auroc_from(ranks: Ranks) -> float:
    """The probability that a positive scores above a negative; a tie counts half."""
    if ranks.undefined:
        return float("nan")
    # Sums of integers are exact for any number of pixels.
    pairs_lost = int(ranks.count_above.sum()) + int(ranks.count_at_least.sum())
    return 1 - pairs_lost / (2 * len(ranks.order) * ranks.negative_count)


def precision_recall(ranks: Ranks) -> tuple[Floats, Floats]:
    """Precision and recall at every distinct positive score, highest first.

    Thresholds between these scores only add false positives, so no metric here needs them.
    """
    true_positives = np.arange(1, len(ranks.order) + 1, dtype=np.float64)[ranks.last_of_tie]
    precision = true_positives / (true_positives + ranks.count_at_least[ranks.last_of_tie])
    return precision, true_positives / len(ranks.order)


def average_precision_from(ranks: Ranks) -> float:
    """Sum of precision times step in recall, as in scikit-learn."""
    if not len(ranks.order):
        return float("nan")
    precision, recall = precision_recall(ranks)
    return float(np.dot(precision, np.diff(recall, prepend=0.0)))


def f1_max_from(ranks: Ranks) -> float:
    """The largest F1 over all thresholds; optimistic, because the labels choose the threshold."""
    if not len(ranks.order):
        return float("nan")
    precision, recall = precision_recall(ranks)
    return float(np.max(2 * precision * recall / (precision + recall)))


def rank_arrays(negatives: Scores, positives: Scores) -> Ranks:
    """`rank` for two flat arrays; it does not change them.

    Raises:
        UsageError: an array is not flat, or holds labels in place of scores.
    """
    for scores in (negatives, positives):
        if np.ndim(scores) != 1:
            raise UsageError(
                f"scores have the shape {np.shape(scores)}; give two flat arrays: those of the "
                "negatives, then those of the positives"
            )
    for which, one, other in (("first", negatives, positives), ("second", positives, negatives)):
        if _are_labels(one, other):
            raise UsageError(
                f"the {which} array holds labels: give the scores of the negatives, then those of "
                "the positives (scores[~labels], scores[labels])"
            )
    return rank(positives, [negatives.copy])


def _are_labels(one: Scores, other: Scores) -> bool:
    """Whether one array looks like the labels of the other, as scikit-learn wants them."""
    kind, of_other = (np.asarray(scores).dtype.kind for scores in (one, other))
    if kind == "b":
        return True
    integers = kind in "iu" and of_other == "f" and len(one) == len(other)
    return integers and set(np.unique(one)) == {0, 1}


def auroc(negatives: Scores, positives: Scores) -> float:
    """Area under the ROC curve of two flat arrays of scores."""
    return auroc_from(rank_arrays(negatives, positives))


def average_precision(negatives: Scores, positives: Scores) -> float:
    """Average precision; see `average_precision_from`."""
    return average_precision_from(rank_arrays(negatives, positives))


def f1_max(negatives: Scores, positives: Scores) -> float:
    """Largest F1; see `f1_max_from`."""
    return f1_max_from(rank_arrays(negatives, positives))
