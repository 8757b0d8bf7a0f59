"""Counts of an inspection with the interval in which the true share lies."""

from __future__ import annotations

from dataclasses import dataclass

from urd.evaluation.tally import Tally
from urd.inspection.calibration import CONFIDENCE, Thresholds, Verdict, upper_bound


@dataclass(frozen=True)
class Count:
    """How many test images are of a kind.

    Attributes:
        verdicts: the verdicts that these images got.
        total: the images that could be of this kind, at least one.
    """

    name: str
    verdicts: tuple[Verdict, ...]
    count: int
    total: int

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval (Clopper and Pearson) of the share."""
        return share_interval(self.count, self.total)

    @property
    def shares(self) -> str:
        """The share and its interval, in words."""
        low, high = self.interval
        ends = f"{percent(low).removesuffix(' %')} to {percent(high)}"
        return f"{percent(self.count / self.total)} (95 %: {ends})"


def counts_of(tally: Tally) -> list[Count]:
    """The mistakes first, then what was not judged; without thresholds only the latter."""
    counts = [
        Count("missed defects", ("OK",), tally.missed, tally.defective),
        Count("outlined elsewhere", ("REVIEW", "NG"), tally.elsewhere, tally.outlined),
        Count("good parts rejected", ("NG",), tally.rejected, tally.good),
        Count("good parts to review", ("REVIEW",), tally.to_review, tally.good),
    ]
    not_judged = Count("not judged", ("ERROR",), tally.not_judged, tally.images)
    shown = [*(counts if tally.calibrated else ()), not_judged]
    return [count for count in shown if count.total]


def share_interval(count: int, total: int) -> tuple[float, float]:
    """The exact two-sided 95 % interval of a share (Clopper and Pearson)."""
    each = 1 - (1 - CONFIDENCE) / 2
    return 1 - upper_bound(total, total - count, each), upper_bound(total, count, each)


def percent(share: float) -> str:
    """A share for people: two digits."""
    if share in (0.0, 1.0) or share >= 0.0995:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.2g} %"


def sentences(tally: Tally) -> list[str]:
    """The counts in words with their intervals, the most serious first; not judged comes last."""
    lines = [] if tally.calibrated else ["No thresholds, so no verdicts: run urd calibrate."]
    for count in counts_of(tally):
        shares = "" if "ERROR" in count.verdicts else f": {count.shares}"
        lines.append(f"{count.name.capitalize()} {count.count} of {count.total}{shares}.")
    return lines


def thresholds_in_words(thresholds: Thresholds) -> str:
    """The thresholds in force, and why there is no REVIEW if there is none."""
    review, reject = thresholds.review, thresholds.reject
    if review.threshold < reject.threshold:
        return f"REVIEW above {review.threshold:.4g}, NG above {reject.threshold:.4g}."
    text = f"NG above {reject.threshold:.4g}, and no REVIEW"
    if review.wanted <= reject.wanted:
        return (
            f"{text}: its share of good images ({percent(review.wanted)}) is not above that of NG; "
            "a larger --review gives one."
        )
    return f"{text}: {review.n} good images are too few to tell its threshold from that of NG."
