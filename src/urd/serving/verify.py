"""Check a detector with limit samples: parts of which people know whether they are good or bad."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urd.data import search
from urd.detector import Detector
from urd.errors import UsageError
from urd.inspection.judge import Inspection
from urd.inspection.prediction import Failure
from urd.system.files import printable
from urd.system.progress import note, track

KINDS = ("good", "bad")
_WRONG = {"good": ("NG", "ERROR"), "bad": ("OK", "ERROR")}
_STRICT = {"good": ("NG", "ERROR", "REVIEW"), "bad": ("OK", "ERROR", "REVIEW")}


@dataclass(frozen=True)
class LimitSample:
    """A known part and what the detector says about it.

    Attributes:
        limits: scores above them are REVIEW and NG.
    """

    path: Path
    kind: str
    verdict: str
    score: float | None
    wrong: bool
    reason: str | None = None
    limits: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "path": printable(self.path)}

    def __str__(self) -> str:
        review, reject = self.limits or (0.0, 0.0)
        above = f"REVIEW above {review:.4f}, NG above {reject:.4f}"
        what = self.reason or f"score {self.score:.4f}; {above}"
        return f"{self.path}: a {self.kind} part is {self.verdict} ({what})"


def limit_samples(parts: Path) -> list[tuple[str, Path]]:
    """The images in the folders `good` and `bad` of PARTS, also in folders below them.

    Raises:
        UsageError: one of both is missing or empty, so that the check would prove nothing.
    """
    found = []
    for kind in KINDS:
        folder = parts / kind
        if not folder.is_dir():
            raise UsageError(f"{parts} needs the folders good and bad; there is no {folder}")
        searched = search(folder)
        for line in searched.passed_over():
            note(line)
        if not searched.images:
            raise UsageError(f"there is no image in {folder}")
        found += [(kind, path) for path in searched.images]
    return found


def verify(
    detector: Detector,
    samples: Iterable[tuple[str, Path]],
    inspection: Inspection | None = None,
    *,
    strict: bool = False,
    batch_size: int = 8,
) -> list[LimitSample]:
    """Judge limit samples.

    A good part must not be NG, a bad part must not be OK, and each must be judged. REVIEW is right
    for both, because a person then looks at the part; with `strict` it is wrong for both.

    Raises:
        UsageError: the detector has no thresholds.
    """
    thresholds = detector.thresholds(inspection)
    if thresholds is None:
        raise UsageError("the detector has no thresholds: run urd calibrate RUN GOOD")
    samples = list(samples)
    limits = (thresholds.review.threshold, thresholds.reject.threshold)
    wrong = _STRICT if strict else _WRONG
    paths = [path for _, path in samples]
    judged = track(detector.predict_many(paths, batch_size, inspection), "Verifying", len(paths))
    results = []
    for (kind, path), result in zip(samples, judged, strict=True):
        verdict, is_wrong = str(result.verdict), result.verdict in wrong[kind]
        if isinstance(result, Failure):
            results.append(LimitSample(path, kind, verdict, None, is_wrong, result.reason))
        else:
            found = LimitSample(path, kind, verdict, result.score, is_wrong, limits=limits)
            results.append(found)
    return results
