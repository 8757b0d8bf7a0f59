"""Counts of an inspection: missed defects, rejected good parts, images not judged."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from urd.evaluation.records import JudgedImage
from urd.inspection.calibration import Verdict

VERDICTS: tuple[Verdict, ...] = typing.get_args(Verdict)


@dataclass(frozen=True)
class Tally:
    """Numbers of test images by label and verdict.

    Attributes:
        defective: defective images that were judged; `missed` of them were OK.
        outlined: defective images with a mask whose verdict is REVIEW or NG; on `elsewhere` of them
            no outline touches the mask.
        good: good images that were judged; `rejected` of them were NG, `to_review` REVIEW.
        not_judged: images that cannot be judged, good or defective.
        calibrated: false if the detector has no thresholds, so nothing is missed or rejected.
    """

    defective: int
    missed: int
    outlined: int
    elsewhere: int
    good: int
    rejected: int
    to_review: int
    not_judged: int
    calibrated: bool

    @classmethod
    def of(cls, images: Iterable[JudgedImage]) -> Tally:
        images = list(images)
        counts = Counter((image.good, image.verdict) for image in images)
        judged = {key: n for key, n in counts.items() if key[1] != "ERROR"}
        return cls(
            defective=sum(n for (is_good, _), n in judged.items() if not is_good),
            missed=counts[False, "OK"],
            outlined=sum(image.on_defect is not None for image in images if image.is_found),
            elsewhere=sum(image.on_defect is False for image in images if image.is_found),
            good=sum(n for (is_good, _), n in judged.items() if is_good),
            rejected=counts[True, "NG"],
            to_review=counts[True, "REVIEW"],
            not_judged=sum(counts.values()) - sum(judged.values()),
            calibrated=all(verdict is not None for _, verdict in counts),
        )

    @property
    def images(self) -> int:
        """The number of images, judged or not."""
        return self.good + self.defective + self.not_judged

    def metrics(self) -> dict[str, int | None]:
        """The counts, named as in the output of `urd evaluate --json`."""
        of_verdicts = {
            "n_missed": self.missed,
            "n_outlined_elsewhere": self.elsewhere,
            "n_rejected": self.rejected,
            "n_to_review": self.to_review,
        }
        if not self.calibrated:
            return {"n_not_judged": self.not_judged, **dict.fromkeys(of_verdicts)}
        return {"n_not_judged": self.not_judged, **of_verdicts}

    def sentence(self) -> str:
        """The counts in words, the most serious first."""
        not_judged = f"Not judged {self.not_judged} of {self.images}."
        if not self.calibrated:
            return f"No thresholds, so no verdicts: run urd calibrate. {not_judged}"
        parts = []
        if self.defective:
            share = f"{100 * self.missed / self.defective:.0f} %"
            parts.append(f"Missed defects {self.missed} of {self.defective} ({share}).")
        if self.elsewhere:
            parts.append(f"Outlined elsewhere {self.elsewhere} of {self.outlined}.")
        if self.good:
            parts.append(
                f"Good parts rejected {self.rejected} of {self.good}, sent to review "
                f"{self.to_review} of {self.good}."
            )
        return " ".join([*parts, not_judged])
