"""Photographs that show almost the same, found by comparing small grey pictures of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # pixels of a small picture
_ROWS, _COLUMNS = 1024, 4096  # pictures that are compared at once: 50 MB
_PAIRS = 1000  # to learn how far two usual pictures lie apart
# Measured on MVTec's screws and pills, BSData and the demo. A photograph and itself with noise,
# stronger JPEG or another exposure: at most 0.017, and 0.09 times the usual distance. A test image
# and the nearest training image: at least 0.08, 0.05, 0.016, 0.12; 0.07, 0.6, 0.12, 0.2 times.
_MOST = 0.03
_NEAR = 0.1  # times the usual distance
_LEAST_CONTRAST = 1.0  # grey values; less is noise

Small = NDArray[np.uint8]


class Pair(NamedTuple):
    """Two pictures by their numbers, and how far they lie apart."""

    one: int
    other: int
    distance: float


def small_picture(image: Image.Image) -> Small:
    """A grey picture (SIDE * SIDE,) of an RGB image."""
    reduced = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(reduced.convert("L")).ravel()


def lookalikes(ones: Small, others: Small) -> list[Pair]:
    """The pictures of `ones` that show almost the same as one of `others`.

    The distance of two pictures is the root of their mean squared difference after both were
    brought to the mean 0 and the standard deviation 1. Parts in a fixture always look much alike,
    so a pair must also be many times nearer than two `others` usually are.

    Args:
        ones: (N, D). others: (M, D), in the order in which they were taken, if it is known.
    """
    if len(ones) == 0 or len(others) < 2:
        return []
    limit = min(_MOST, _NEAR * _usual_distance(others))
    distances, numbers = _nearest(ones, others)
    return [
        Pair(one, int(numbers[one]), float(distances[one]))
        for one in np.flatnonzero(distances <= limit).tolist()
    ]


def _usual_distance(pictures: Small) -> float:
    """The median distance of pairs that stand far from each other in the order."""
    half = len(pictures) // 2
    first = np.unique(np.linspace(0, half - 1, min(_PAIRS, half)).astype(int))
    difference = _normalised(pictures[first]) - _normalised(pictures[first + half])
    return float(np.median(np.sqrt((difference**2).mean(axis=1))))


def _nearest(ones: Small, others: Small) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """For each of `ones` the distance to the nearest of `others`, and its number."""
    distances = np.full(len(ones), np.inf, np.float32)
    numbers = np.zeros(len(ones), np.int64)
    for row in range(0, len(ones), _ROWS):
        mine = _normalised(ones[row : row + _ROWS])
        here = slice(row, row + len(mine))
        for column in range(0, len(others), _COLUMNS):
            theirs = _normalised(others[column : column + _COLUMNS])
            squares = (mine**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1)
            squares -= 2 * mine @ theirs.T
            best = squares.argmin(axis=1)
            found = np.sqrt(squares[np.arange(len(mine)), best].clip(0) / ones.shape[1])
            nearer = found < distances[here]
            distances[here][nearer] = found[nearer]
            numbers[here][nearer] = best[nearer] + column
    return distances, numbers


def _normalised(pictures: Small) -> NDArray[np.float32]:
    values = pictures.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(values.std(axis=1, keepdims=True), _LEAST_CONTRAST)
