"""Thresholds from good images alone: order statistics, so that no distribution is assumed.

The k-th smallest of n scores of good images, drawn independently from what the detector will see,
is exceeded by a share of all good images that is Beta(n - k + 1, k) distributed, whatever the
scores' distribution (with ties it is at most that). From it follow the share to be expected and the
bound that it stays under in 95 of 100 calibrations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from urd.errors import UrdError, UsageError

Verdict = Literal["OK", "REVIEW", "NG", "ERROR"]
CONFIDENCE = 0.95
FALSE_REJECT, REVIEW = 0.01, 0.05  # wanted shares of good images above the two thresholds
PIXEL_SHARE = 0.001  # of a good image's pixels may lie above the pixel threshold
_MOST_STEEP = 8.0
_TYPICAL_GOOD = 0.1  # calibrated score of the median good image, where the threshold allows it


@dataclass(frozen=True)
class Limit:
    """A threshold and what is known of the share of good images that exceed it.

    Attributes:
        wanted: the share asked for.
        threshold: scores above it are rejected.
        above: how many of the n scores exceed it, ties aside.
        expected: the share to be expected; above `wanted` where n is too small for it.
        bound: its one-sided 95 % upper bound.
        more_images: how many more would halve the bound, if as many of them in all exceed it.
    """

    wanted: float
    threshold: float
    above: int
    n: int
    expected: float
    bound: float
    more_images: int


def pixel_statistic(anomaly_map: np.ndarray, roi: np.ndarray | None = None) -> float:
    """The value that a share `PIXEL_SHARE` of the pixels of a map (H, W) exceeds.

    With `roi`, (H, W) bool, those pixels count, and the map is 0 elsewhere.
    """
    count = anomaly_map.size if roi is None else int(roi.sum())
    place = anomaly_map.size - 1 - int(PIXEL_SHARE * count)
    return float(np.partition(anomaly_map.ravel(), place)[place])


def limit(scores: Sequence[float], wanted: float) -> Limit:
    """The lowest threshold that good images are expected to exceed at most as often as wanted.

    Where even the largest score promises less than that, it is the threshold, and `expected` says
    what it promises.

    Raises:
        UsageError: no scores, or a share outside (0, 1).
    """
    if not 0 < wanted < 1:
        raise UsageError(f"the wanted share of false rejects is {wanted}; give one between 0 and 1")
    if len(scores) == 0:
        raise UsageError("no good images to calibrate on")
    ordered = np.sort(np.asarray(scores, np.float64))
    n = len(ordered)
    # The share expected above the threshold is (above + 1) / (n + 1).
    above = max(0, math.floor(wanted * (n + 1) + 1e-9) - 1)
    bound = upper_bound(n, above)
    return Limit(
        wanted=wanted,
        threshold=float(ordered[n - 1 - above]),
        above=above,
        n=n,
        expected=(above + 1) / (n + 1),
        bound=bound,
        more_images=_images_for(bound / 2, above, n) - n,
    )


def enough_images(wanted: float) -> int:
    """The fewest good images whose largest score is exceeded at most as often as wanted."""
    return math.ceil(1 / wanted - 1e-9) - 1


def upper_bound(n: int, above: int, confidence: float = CONFIDENCE) -> float:
    """The `confidence` quantile of Beta(above + 1, n - above).

    Its distribution function at p is the chance that more than `above` of n binomial draws succeed.
    """
    if above >= n:
        return 1.0
    chance_of_at_most = _binomial(above, n)
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if chance_of_at_most(middle) > 1 - confidence else (low, middle)
    return high


def chance_of_at_least(count: int, n: int, share: float) -> float:
    """The chance that `count` or more of n images are rejected, each with the chance `share`."""
    if count <= 0:
        return 1.0
    return max(0.0, 1 - _binomial(count - 1, n)(share)) if share < 1 else 1.0


def _binomial(most: int, n: int) -> Callable[[float], float]:
    """The chance, as a function of p in (0, 1), that at most `most` of n draws succeed."""
    index = np.arange(1, most + 1, dtype=np.float64)
    choose = np.concatenate([[0.0], np.cumsum(np.log((n - index + 1) / index))])
    successes = np.arange(most + 1)

    def chance(p: float) -> float:
        terms = choose + successes * math.log(p) + (n - successes) * math.log1p(-p)
        return float(np.exp(terms).sum())

    return chance


def _images_for(bound: float, above: int, n: int) -> int:
    """The smallest number of images of which `above` may exceed a threshold of this bound."""
    low, high = n, 2 * n
    while upper_bound(high, above) > bound:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_bound(middle, above) > bound else (low, middle)
    return high


@dataclass(frozen=True)
class Thresholds:
    """What decides: `review` and `reject` on image scores, `pixel` on the map."""

    review: Limit
    reject: Limit
    pixel: Limit

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def verdict(self, score: float) -> Verdict:
        """OK up to the review threshold, NG above the other one.

        Written so that NaN, which is neither above nor below anything, is never OK.
        """
        if not score <= self.reject.threshold:
            return "NG"
        return "OK" if score <= self.review.threshold else "REVIEW"

    def shortfall(self) -> str | None:
        """What it means that the good images are too few for a wanted share; `None`: enough."""
        named = ((self.reject, "NG"), (self.review, "REVIEW"))
        short = [(x, name) for x, name in named if x.n < enough_images(x.wanted)]
        if not short:
            return None
        shares = " and ".join(f"{100 * x.wanted:.2g} % ({name})" for x, name in short)
        enough = max(enough_images(x.wanted) for x, _ in short)
        return (
            f"{self.reject.n} images are too few for {shares}: the threshold is the largest score "
            "among them, and more good parts than wanted will lie above it. "
            f"{enough} images are enough."
        )


@dataclass(frozen=True)
class Calibration:
    """Scores of good images, from which thresholds for any wanted rate follow without them.

    Attributes:
        scores: image scores, ascending.
        pixels: per image the value that a share `PIXEL_SHARE` of its map exceeds, ascending.
        source: where the images came from.
        false_reject, review: the wanted shares where none are asked for.

    Raises:
        UrdError: scores or pixels are not finite and ascending.
    """

    scores: tuple[float, ...]
    pixels: tuple[float, ...]
    source: str
    false_reject: float = FALSE_REJECT
    review: float = REVIEW

    def __post_init__(self) -> None:
        for values in (self.scores, self.pixels):
            rising = all(a <= b for a, b in itertools.pairwise(values))
            if not rising or not all(map(math.isfinite, values)):
                raise UrdError("scores to calibrate on must be finite and ascending")

    @classmethod
    def of(
        cls,
        scores: Sequence[float],
        pixels: Sequence[float],
        source: str,
        false_reject: float = FALSE_REJECT,
        review: float = REVIEW,
    ) -> Calibration:
        """From the statistics of good images, in any order."""
        ordered = tuple(sorted(scores)), tuple(sorted(pixels))
        return cls(*ordered, source, false_reject, review)

    def thresholds(
        self, false_reject: float | None = None, review: float | None = None
    ) -> Thresholds:
        """Thresholds for wanted shares of good images that are rejected, or at least reviewed.

        Raises:
            UsageError: shares outside (0, 1), or fewer to review than to reject.
        """
        rejected = self.false_reject if false_reject is None else false_reject
        reviewed = max(self.review, rejected) if review is None else review
        if reviewed < rejected:
            raise UsageError(
                f"the share to review ({reviewed}) includes the share to reject ({rejected}): it "
                "cannot be smaller"
            )
        # Those who reject more want smaller marks too: the pixel threshold follows.
        return Thresholds(
            limit(self.scores, reviewed), limit(self.scores, rejected), limit(self.pixels, reviewed)
        )

    def calibrated(self, score: float, threshold: float) -> float:
        """A score in (0, 1) that is 0.5 at the threshold and rises strictly with the raw one.

        It is s^p / (s^p + t^p) with p the `steepness`.
        """
        score, threshold = max(score, 1e-12), max(threshold, 1e-12)
        steepness = self.steepness(threshold)
        return 1 / (1 + math.exp(min(700.0, steepness * math.log(threshold / score))))

    def steepness(self, threshold: float) -> float:
        """The power that puts the median good image at 0.1.

        It is 8 at the most, so that no score that can occur rounds to 1.
        """
        typical = max(float(np.median(self.scores)), 1e-12)
        wanted = math.log(1 / _TYPICAL_GOOD - 1)
        gap = math.log(max(threshold, 1e-12) / typical)
        return min(_MOST_STEEP, wanted / gap) if gap > 0 else _MOST_STEEP

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "scores": list(self.scores), "pixels": list(self.pixels)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Calibration:
        lists = {name: tuple(float(v) for v in content[name]) for name in ("scores", "pixels")}
        return cls(**{**content, **lists})
