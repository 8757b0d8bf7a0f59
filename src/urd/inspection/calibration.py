"""Thresholds from good images alone. They are order statistics, so no distribution is assumed.

Take n good images, drawn independently from those that the detector will see. The share of all good
images above the k-th smallest of their scores is Beta(n - k + 1, k) distributed, for any
distribution of the scores; with ties it is at most that. This gives the expected share, and a bound
that holds in 95 of 100 calibrations.
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
FALSE_REJECT, REVIEW = 0.01, 0.05  # target shares of good images above the two thresholds
PIXEL_SHARE = 0.001  # share of a good image's pixels above the pixel threshold
_MOST_STEEP = 8.0
_TYPICAL_GOOD = 0.1  # calibrated score of the median good image, if `_MOST_STEEP` allows it


@dataclass(frozen=True)
class Limit:
    """A threshold and what is known about the share of good images above it.

    Attributes:
        wanted: the target share.
        threshold: scores above it are rejected.
        above: how many of the n scores are above it, if there are no ties.
        expected: the expected share; it is larger than `wanted` if n is too small.
        bound: the one-sided 95 % upper bound of the share.
        more_images: extra good images that halve the bound, if none of them is above the threshold.
    """

    wanted: float
    threshold: float
    above: int
    n: int
    expected: float
    bound: float
    more_images: int


def pixel_statistic(anomaly_map: np.ndarray, roi: np.ndarray | None = None) -> float:
    """The value that the share `PIXEL_SHARE` of the pixels of a map (H, W) exceeds.

    With `roi`, (H, W) bool, only its pixels count; the map is 0 elsewhere.
    """
    count = anomaly_map.size if roi is None else int(roi.sum())
    place = anomaly_map.size - 1 - int(PIXEL_SHARE * count)
    return float(np.partition(anomaly_map.ravel(), place)[place])


def limit(scores: Sequence[float], wanted: float) -> Limit:
    """The lowest threshold for which the expected share of good images above it is <= `wanted`.

    If even the largest score gives a larger share, the threshold is that score, and `expected` is
    its share.

    Raises:
        UsageError: there are no scores, or `wanted` is outside (0, 1).
    """
    if not 0 < wanted < 1:
        raise UsageError(f"the target false-reject share is {wanted}; give one between 0 and 1")
    if len(scores) == 0:
        raise UsageError("no good images to calibrate on")
    ordered = np.sort(np.asarray(scores, np.float64))
    n = len(ordered)
    # The expected share above the threshold is (above + 1) / (n + 1), the mean of the Beta. The
    # 1e-9 keeps a product such as 0.29 * 100 = 28.999... from losing one image.
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
    """The fewest good images for which the largest score has an expected share <= `wanted`."""
    return math.ceil(1 / wanted - 1e-9) - 1


def upper_bound(n: int, above: int, confidence: float = CONFIDENCE) -> float:
    """The `confidence` quantile of Beta(above + 1, n - above).

    Its distribution function at p is the chance that more than `above` of n binomial draws succeed.
    """
    if above >= n:
        return 1.0
    # Bisection: the chance of at most `above` successes falls as p rises.
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
    # Logarithms, because the coefficients overflow for some thousand draws.
    successes = np.arange(most + 1)

    def chance(p: float) -> float:
        terms = choose + successes * math.log(p) + (n - successes) * math.log1p(-p)
        return float(np.exp(terms).sum())

    return chance


def _images_for(bound: float, above: int, n: int) -> int:
    """The smallest number of images with `above` of them over the threshold for this bound."""
    low, high = n, 2 * n
    while upper_bound(high, above) > bound:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_bound(middle, above) > bound else (low, middle)
    return high


@dataclass(frozen=True)
class Thresholds:
    """The limits: `review` and `reject` for image scores, `pixel` for values of the map."""

    review: Limit
    reject: Limit
    pixel: Limit

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def verdict(self, score: float) -> Verdict:
        """OK up to the review threshold, NG above the reject threshold, REVIEW between.

        `not <=` instead of `>`: every comparison with NaN is false, so NaN gives NG and never OK.
        """
        if not score <= self.reject.threshold:
            return "NG"
        return "OK" if score <= self.review.threshold else "REVIEW"

    def shortfall(self) -> str | None:
        """A warning if there are too few good images for a target share; `None` if not."""
        named = ((self.reject, "NG"), (self.review, "REVIEW"))
        short = [(x, name) for x, name in named if x.n < enough_images(x.wanted)]
        if not short:
            return None
        shares = " and ".join(f"{100 * x.wanted:.2g} % ({name})" for x, name in short)
        enough = max(enough_images(x.wanted) for x, _ in short)
        return (
            f"{self.reject.n} images are too few for {shares}: the threshold is their largest "
            f"score, so expect more rejects than wanted. {enough} images are enough."
        )


@dataclass(frozen=True)
class Calibration:
    """Scores of good images. They give thresholds for any target rate, without the images.

    Attributes:
        scores: image scores, ascending.
        pixels: the `pixel_statistic` of each image, ascending.
        source: where the images came from.
        false_reject, review: the default target shares.

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
                raise UrdError("calibration scores must be finite and ascending")

    @classmethod
    def of(
        cls,
        scores: Sequence[float],
        pixels: Sequence[float],
        source: str,
        false_reject: float = FALSE_REJECT,
        review: float = REVIEW,
    ) -> Calibration:
        """Make a calibration from the statistics of good images, in any order."""
        ordered = tuple(sorted(scores)), tuple(sorted(pixels))
        return cls(*ordered, source, false_reject, review)

    def thresholds(
        self, false_reject: float | None = None, review: float | None = None
    ) -> Thresholds:
        """Thresholds for target shares of good images: rejected, and rejected or reviewed.

        Raises:
            UsageError: a share is outside (0, 1), or `review` is smaller than `false_reject`.
        """
        rejected = self.false_reject if false_reject is None else false_reject
        reviewed = max(self.review, rejected) if review is None else review
        if reviewed < rejected:
            raise UsageError(
                f"the review share ({reviewed}) includes the false-reject share ({rejected}): it "
                "cannot be smaller"
            )
        # The pixel threshold uses the review share: a user who reviews more also wants more marks.
        return Thresholds(
            limit(self.scores, reviewed), limit(self.scores, rejected), limit(self.pixels, reviewed)
        )

    def calibrated(self, score: float, threshold: float) -> float:
        """A score in (0, 1) that is 0.5 at the threshold and rises strictly with the raw score.

        It is s^p / (s^p + t^p); p is the `steepness`.
        """
        score, threshold = max(score, 1e-12), max(threshold, 1e-12)
        steepness = self.steepness(threshold)
        # The formula, divided by s^p; math.exp overflows just above 700.
        return 1 / (1 + math.exp(min(700.0, steepness * math.log(threshold / score))))

    def steepness(self, threshold: float) -> float:
        """The power p that gives the median good image a calibrated score of 0.1.

        It is at most 8, so that no possible score rounds to 1.
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
