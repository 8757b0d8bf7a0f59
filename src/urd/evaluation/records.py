"""The records of an evaluation, and the two files of a run folder that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, Strict

from urd.data import GOOD
from urd.errors import UrdError
from urd.evaluation.schema import Figures
from urd.inspection.calibration import Verdict
from urd.inspection.prediction import Failure
from urd.model.run_folder import RunFolder
from urd.system.documents import MIB
from urd.system.files import json_text, refuse_special, write_texts
from urd.system.schema import Ascending, Name, Score, Share, Text, read_checked

_MOST_BYTES = 64 * MIB
_MOST_IMAGES = 1_000_000
_MOST_POINTS = 100_000


@dataclass(frozen=True)
class JudgedImage:
    """The judgement of one test image.

    Attributes:
        path: the file, as valid text.
        defect: `good` or the type of defect.
        score: `None` if the image cannot be judged: then the verdict is ERROR and `reason` says
            why.
        verdict: `None` without thresholds.
        on_defect: whether the outline of a found defect touches the mask; `None`: there is no mask,
            or nothing was found.

    Raises:
        ValueError: score, verdict and reason contradict each other.
    """

    path: Text
    defect: Name
    score: Annotated[Score, Strict()] | None
    verdict: Verdict | None
    reason: Text | None = None
    on_defect: Annotated[bool, Strict()] | None = None

    def __post_init__(self) -> None:
        if (self.score is None) == self.judged:
            raise ValueError("an image must have either a score or the verdict ERROR")
        if not self.judged and self.reason is None:
            raise ValueError("an image with the verdict ERROR must have a reason")

    @property
    def judged(self) -> bool:
        return self.verdict != "ERROR"

    @property
    def good(self) -> bool:
        """The label, not the verdict."""
        return self.defect == GOOD

    @property
    def is_found(self) -> bool:
        """A defective image with the verdict REVIEW or NG."""
        return not self.good and self.verdict in ("REVIEW", "NG")

    def row(self) -> dict[str, Any]:
        """The entry in `evaluation_details.json`."""
        row = {
            "path": self.path,
            "defect": self.defect,
            "score": self.score,
            "verdict": self.verdict,
        }
        more = {"reason": self.reason, "on_defect": self.on_defect}
        return {**row, **{name: value for name, value in more.items() if value is not None}}


def _equally_long(curve: tuple[list[float], list[float]]) -> tuple[list[float], list[float]]:
    if len(curve[0]) != len(curve[1]):
        raise ValueError("both lists of a curve must have the same length")
    return curve


_Rates = Annotated[list[Annotated[Share, Strict()]], Field(min_length=2, max_length=_MOST_POINTS)]
Curve = Annotated[tuple[Annotated[_Rates, Ascending], _Rates], AfterValidator(_equally_long)]


@dataclass(frozen=True)
class Details:
    """`evaluation_details.json`. Older files also have a list `skipped`.

    Attributes:
        images: in the order of the test set.
        curves: `roc` of image scores and `pro` of pixels, each as (false-positive rates, rates).
            An undefined curve is absent.
    """

    images: Annotated[list[JudgedImage], Field(min_length=1, max_length=_MOST_IMAGES)]
    curves: Annotated[dict[Name, Curve], Field(max_length=10)]


@dataclass(frozen=True)
class Evaluation:
    """The results of a detector on a test set.

    Attributes:
        metrics: a flat dictionary: the result of `urd.metrics.evaluate`, the protocol, and facts
            about the data and the model.
        images, curves: as in `Details`.
        failures: images that cannot be judged.
    """

    metrics: dict[str, Any]
    images: list[JudgedImage]
    curves: dict[str, Curve]
    failures: list[Failure]

    def write(self, run: Path) -> None:
        """Write the figures, and the details that a report needs, to a run folder."""
        details = {"images": [image.row() for image in self.images], "curves": self.curves}
        folder = RunFolder(run)
        figures = json_text(self.metrics)
        write_texts({folder.evaluation_details: json_text(details), folder.evaluation: figures})


def read_evaluation(run: Path, weights: str | None) -> Evaluation | None:
    """Read what `Evaluation.write` wrote to a run folder; `None` if there is nothing.

    Args:
        weights: fingerprint of the current model, `Engine.weights_sha256`.

    Raises:
        UrdError: a file is missing or cannot be read, or the files come from another model or
            from two different calls.
    """
    folder = RunFolder(run)
    figures = _read(folder.evaluation, Figures) if run.is_dir() else None
    if figures is None:  # details without figures come from a killed call
        return None
    metrics = figures.model_dump()
    if metrics.get("weights_sha256", weights) != weights:
        raise UrdError(f"{folder.evaluation} comes from another model: run urd evaluate again")
    details = read_details(run)
    judged = sum(image.judged for image in details.images) if details is not None else 0
    if details is None or judged != metrics["n_good"] + metrics["n_defective"]:
        raise UrdError(
            f"{folder.evaluation} and {folder.evaluation_details.name} do not belong together: run "
            "urd evaluate again"
        )
    failures = [Failure(Path(i.path), i.reason or "") for i in details.images if not i.judged]
    return Evaluation(metrics, details.images, details.curves, failures)


def read_details(run: Path) -> Details | None:
    """Read the images and curves of `Evaluation.write` in a run folder; `None` if there are none.

    Raises:
        UrdError: the file cannot be read, or has other content.
    """
    return _read(RunFolder(run).evaluation_details, Details)


def _read(path: Path, schema: Any) -> Any:
    """The checked content; `None` if there is no file."""
    refuse_special(path)
    if not path.exists():
        return None
    return read_checked(schema, path, _MOST_BYTES, "cannot be read", "run urd evaluate again")
