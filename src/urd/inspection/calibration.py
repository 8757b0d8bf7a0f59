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
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from urd.errors import UrdError, UsageError

Verdict = Literal["OK", "REVIEW", "NG", "ERROR"]
CONFIDENCE = 0.95
FALSE_REJECT, REVIEW = 0.01, 0.05  # target shares of good images above the two thresholds
PIXEL_SHARE = 0.001  # share of a good image's pixels above the pixel threshold
# From the median good score to the threshold there are this many steps of the calibrated score's
# curve, so that the median good image has a calibrated score of 0.1.
_STEPS = 4 / 3
_LEAST_GAP = 0.01  # between both, as a share of the threshold's size


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
    _refuse_no_share(wanted)
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


def _refuse_no_share(wanted: float) -> None:
    if not 0 < wanted < 1:
        percent = wanted if 1 <= wanted < 100 else 5
        raise UsageError(
            f"the target false-reject share is {wanted}; give one between 0 and 1: {percent:g} % "
            f"is {percent / 100:g}"
        )


def limit_at(scores: Sequence[float], threshold: float, wanted: float) -> Limit:
    """A given threshold, and the share of good images to expect above it."""
    n = len(scores)
    above = sum(score > threshold for score in scores)
    bound = upper_bound(n, above)
    return Limit(
        wanted=wanted,
        threshold=float(threshold),
        above=above,
        n=n,
        expected=(above + 1) / (n + 1),
        bound=bound,
        more_images=_images_for(bound / 2, above, n) - n if above < n else 0,
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
    """The limits for image scores and for maps.

    Attributes:
        review, reject: for image scores.
        peak: for the highest value of a map. A higher value is the seed of a defect.
        pixel: for the values of a map around such a seed.
    """

    review: Limit
    reject: Limit
    peak: Limit
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
            f"score, so expect more rejects than wanted. {enough} are enough: give urd calibrate a "
            f"folder of {enough} good images that training did not see."
        )


class GoodImage(NamedTuple):
    """The statistics of a good image from which thresholds are made."""

    score: float
    peak: float
    pixel: float

    @classmethod
    def of(cls, score: float, anomaly_map: np.ndarray, roi: np.ndarray | None = None) -> GoodImage:
        """From an image's score and map (H, W); with `roi`, (H, W) bool, only its pixels count."""
        return cls(score, float(anomaly_map.max()), pixel_statistic(anomaly_map, roi))


_STATISTICS = ("scores", "peaks", "pixels")


@dataclass(frozen=True)
class Calibration:
    """Scores of good images. They give thresholds for any target rate, without the images.

    Attributes:
        scores: image scores, ascending.
        peaks: the highest value of each map, ascending.
        pixels: the `pixel_statistic` of each map, ascending.
        source: where the images came from.
        false_reject, review: the default target shares.

    Raises:
        UrdError: scores, peaks or pixels are not finite and ascending.
    """

    scores: tuple[float, ...]
    peaks: tuple[float, ...]
    pixels: tuple[float, ...]
    source: str
    false_reject: float = FALSE_REJECT
    review: float = REVIEW

    def __post_init__(self) -> None:
        for values in (self.scores, self.peaks, self.pixels):
            rising = all(a <= b for a, b in itertools.pairwise(values))
            if not rising or not all(map(math.isfinite, values)):
                raise UrdError("calibration scores must be finite and ascending")

    @classmethod
    def of(
        cls,
        images: Sequence[GoodImage],
        source: str,
        false_reject: float = FALSE_REJECT,
        review: float = REVIEW,
    ) -> Calibration:
        """Make a calibration from the statistics of good images, in any order."""
        ordered = (tuple(sorted(values)) for values in zip(*images, strict=True))
        scores, peaks, pixels = ordered if images else ((), (), ())
        return cls(scores, peaks, pixels, source, false_reject, review)

    def thresholds(
        self, false_reject: float | None = None, review: float | None = None
    ) -> Thresholds:
        """Thresholds for target shares of good images: rejected, and rejected or reviewed.

        Raises:
            UsageError: a share is outside (0, 1), or `review` is smaller than `false_reject`.
        """
        rejected = self.false_reject if false_reject is None else false_reject
        reviewed = max(self.review, rejected) if review is None else review
        _refuse_no_share(rejected)
        if reviewed < rejected:
            raise UsageError(
                f"the review share ({reviewed}) includes the false-reject share ({rejected}): it "
                "cannot be smaller"
            )
        # Limits of maps use the review share: a user who reviews more also wants more marks.
        return Thresholds(
            review=limit(self.scores, reviewed),
            reject=limit(self.scores, rejected),
            peak=limit(self.peaks, reviewed),
            pixel=limit(self.pixels, reviewed),
        )

    def thresholds_at(self, review: float, reject: float) -> Thresholds:
        """Thresholds for image scores that a person has set; those of maps stay as calibrated.

        Raises:
            UsageError: a threshold is not finite, or `reject` is below `review`.
        """
        if not (math.isfinite(review) and math.isfinite(reject) and review <= reject):
            raise UsageError(
                f"thresholds must be numbers, and reject not below review; got review {review} and "
                f"reject {reject}"
            )
        usual = self.thresholds()
        return replace(
            usual,
            review=limit_at(self.scores, review, self.review),
            reject=limit_at(self.scores, reject, self.false_reject),
        )

    def marks(self, thresholds: Thresholds) -> tuple[float, float]:
        """The values of a map at the marks REVIEW and NG of its colour bar.

        Only the wanted shares of good images have a higher peak. If the score of an image is the
        peak of its map, they are the thresholds themselves.
        """
        if self.peaks == self.scores:
            return thresholds.review.threshold, thresholds.reject.threshold
        reject = limit(self.peaks, thresholds.reject.wanted)
        return thresholds.peak.threshold, reject.threshold

    def calibrated(self, score: float, threshold: float) -> float:
        """A score in (0, 1) that is 0.5 at the threshold and rises strictly with the raw score.

        It is (1 + x / sqrt(1 + x^2)) / 2, where x is the distance from the threshold in steps of
        `steepness`. Unlike the logistic function it does not round to 1 for high scores.
        """
        x = self.steepness(threshold) * (score - threshold)
        return (1 + x / math.hypot(1, x)) / 2

    def steepness(self, threshold: float) -> float:
        """Steps per unit of the raw score: the median good image gets a calibrated score of 0.1."""
        gap = threshold - float(np.median(self.scores))
        return _STEPS / max(gap, _LEAST_GAP * abs(threshold), 1e-9)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), **{name: list(getattr(self, name)) for name in _STATISTICS}}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Calibration:
        """The result of `to_dict`. Before version 0.2 a score was a peak, and had no list."""
        content = {"peaks": content["scores"], **content}
        lists = {name: tuple(float(v) for v in content[name]) for name in _STATISTICS}
        return cls(**{**content, **lists})
