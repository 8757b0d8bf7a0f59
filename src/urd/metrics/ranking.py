"""Ranking metrics in rank form: sort the negatives once, search the positives in them.

Exact for every set of scores, with ties, and without a grid of thresholds. The negatives may come
in chunks: the places of a positive among the chunks add up, so only the positives and one chunk per
thread have to be in memory. With one class empty a metric is undefined: NaN.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from urd.system.threads import map_ahead

Scores = NDArray[np.floating]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """Where the positives stand among the negatives, highest positive score first.

    Attributes:
        order: sorts the positives, highest first.
        count_above: how many negatives are strictly above each sorted positive.
        count_at_least: how many are at or above it.
        last_of_tie: true at the last of equal positives, where a threshold may be put.
        negative_count: how many negatives there are.
    """

    order: NDArray[np.intp]
    count_above: Counts
    count_at_least: Counts
    last_of_tie: NDArray[np.bool_]
    negative_count: int

    @property
    def undefined(self) -> bool:
        """One of the two classes is empty."""
        return not len(self.order) or not self.negative_count


def rank(positives: Scores, negatives: Iterable[Callable[[], Scores]]) -> Ranks:
    """Search `positives` in the negatives, which come as calls that load one chunk each.

    A chunk is sorted in place; chunks are loaded, sorted and searched in threads.
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
        with lock:  # whole numbers: the order of the threads does not matter
            total += places

    total = sum(map_in_threads(search, negatives))
    above, at_least = total - not_above, total - below
    # From distinct scores, ascending, back to all scores, descending.
    group = np.cumsum(np.append(False, last[:-1]))[: len(scores)]
    return Ranks(order, above[::-1][group], at_least[::-1][group], last, total)


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map` with one item per core in work at a time, in order; nothing is computed far ahead."""
    most = 8
    depth = min(most, os.cpu_count() or 1) + 1
    yield from map_ahead(function, items, depth=depth, most_threads=most)


def area_below(ranks: Ranks, weights: Floats, limit: float = 1.0) -> float:
    """Area up to `limit`, divided by it, under the curve of weighted true-positive share against
    false-positive share; `weights` belong to the sorted positives and sum to 1.

    A positive lifts the curve while the false-positive share goes from `above` to `at_least`: at
    once where no negative ties with it, else linearly, which is the trapezoidal rule.
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
    """Chance that a positive scores above a negative, ties counted half."""
    if ranks.undefined:
        return float("nan")
    # Sums of whole numbers: exact, whatever the number of pixels.
    pairs_lost = int(ranks.count_above.sum()) + int(ranks.count_at_least.sum())
    return 1 - pairs_lost / (2 * len(ranks.order) * ranks.negative_count)


def precision_recall(ranks: Ranks) -> tuple[Floats, Floats]:
    """Precision and recall at every distinct positive score, highest first.

    Between these thresholds only false positives are added: no metric here needs them.
    """
    true_positives = np.arange(1, len(ranks.order) + 1, dtype=np.float64)[ranks.last_of_tie]
    precision = true_positives / (true_positives + ranks.count_at_least[ranks.last_of_tie])
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


def rank_arrays(negatives: Scores, positives: Scores) -> Ranks:
    """`rank` of two flat arrays, which stay as they are."""
    return rank(positives, [negatives.copy])


def auroc(negatives: Scores, positives: Scores) -> float:
    """Area under the ROC curve of two flat arrays of scores."""
    return auroc_from(rank_arrays(negatives, positives))


def average_precision(negatives: Scores, positives: Scores) -> float:
    """Average precision; see `average_precision_from`."""
    return average_precision_from(rank_arrays(negatives, positives))


def f1_max(negatives: Scores, positives: Scores) -> float:
    """Largest F1; see `f1_max_from`."""
    return f1_max_from(rank_arrays(negatives, positives))
