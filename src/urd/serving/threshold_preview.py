"""What other thresholds would do: to the last parts of a line, and to good parts to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from urd.inspection.calibration import Thresholds, Verdict

VERDICTS: tuple[Verdict, ...] = ("OK", "REVIEW", "NG")
MOST_CHANGED = 100


@dataclass(frozen=True)
class ChangedPart:
    """A part that gets another verdict."""

    sequence: int
    score: float
    before: Verdict
    after: Verdict


@dataclass(frozen=True)
class Preview:
    """What a change of thresholds would do to parts that are already judged.

    Attributes:
        parts: how many parts were compared.
        before, after: how many of them have each verdict with the old and the new thresholds.
        changed: how many get another verdict. to: how many of these get each verdict.
        examples: the newest of the changed parts, the newest first; at most 100.
    """

    parts: int
    before: dict[str, int]
    after: dict[str, int]
    changed: int
    to: dict[str, int]
    examples: list[ChangedPart]


def preview(
    scores: Sequence[tuple[int, float]], old: Thresholds, new: Thresholds, most: int = MOST_CHANGED
) -> Preview:
    """Compare two pairs of thresholds on scores that are already known; it changes nothing.

    Both sides are decided anew from the scores. A part that was judged under earlier thresholds
    counts as if the old ones had been in force.

    Args:
        scores: sequence and score of each part, the oldest first.
        most: at most so many examples.
    """
    pairs = [(n, score, old.verdict(score), new.verdict(score)) for n, score in scores]
    changed = [ChangedPart(*pair) for pair in pairs if pair[2] != pair[3]]
    return Preview(
        parts=len(pairs),
        before=_counts([before for _, _, before, _ in pairs]),
        after=_counts([after for *_, after in pairs]),
        changed=len(changed),
        to=_counts([part.after for part in changed]),
        examples=changed[::-1][:most],
    )


def _counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    found = Counter(verdicts)
    return {name: found[name] for name in VERDICTS}
