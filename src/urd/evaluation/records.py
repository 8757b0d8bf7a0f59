"""What an evaluation leaves: its records, and the two files of a run folder that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, Strict

from urd.data import GOOD
from urd.errors import UrdError, first_line
from urd.evaluation.schema import Figures
from urd.inspection.calibration import Verdict
from urd.inspection.prediction import Failure
from urd.model.run_folder import RunFolder
from urd.system.documents import MIB, read_json
from urd.system.files import json_text, refuse_special, write_texts
from urd.system.schema import Ascending, Name, Score, Share, Text, check

_MOST_BYTES = 64 * MIB
_MOST_IMAGES = 1_000_000
_MOST_POINTS = 100_000


@dataclass(frozen=True)
class JudgedImage:
    """What was said of one test image.

    Attributes:
        path: where it lies, as valid text.
        defect: `good` or the type.
        score: `None` where it could not be judged: then the verdict is ERROR, and `reason` says
            why.
        verdict: `None` without thresholds.

    Raises:
        ValueError: these do not fit together.
    """

    path: Text
    defect: Name
    score: Annotated[Score, Strict()] | None
    verdict: Verdict | None
    reason: Text | None = None

    def __post_init__(self) -> None:
        if (self.score is None) == self.judged:
            raise ValueError("an image has a score, or the verdict ERROR")
        if not self.judged and self.reason is None:
            raise ValueError("an image with the verdict ERROR has a reason")

    @property
    def judged(self) -> bool:
        return self.verdict != "ERROR"

    @property
    def good(self) -> bool:
        """Its label; see `verdict` for what the detector says."""
        return self.defect == GOOD

    def row(self) -> dict[str, Any]:
        """As in `evaluation_details.json`."""
        row = {
            "path": self.path,
            "defect": self.defect,
            "score": self.score,
            "verdict": self.verdict,
        }
        return row if self.judged else {**row, "reason": self.reason}


def _equally_long(curve: tuple[list[float], list[float]]) -> tuple[list[float], list[float]]:
    if len(curve[0]) != len(curve[1]):
        raise ValueError("both lists of a curve are equally long")
    return curve


_Rates = Annotated[list[Annotated[Share, Strict()]], Field(min_length=2, max_length=_MOST_POINTS)]
Curve = Annotated[tuple[Annotated[_Rates, Ascending], _Rates], AfterValidator(_equally_long)]


@dataclass(frozen=True)
class Details:
    """`evaluation_details.json`; older ones have a list `skipped` beside.

    Attributes:
        images: in the order of the test set.
        curves: `roc` of image scores and `pro` of pixels, each as (false-positive rates, rates);
            those that are undefined are absent.
    """

    images: Annotated[list[JudgedImage], Field(min_length=1, max_length=_MOST_IMAGES)]
    curves: Annotated[dict[Name, Curve], Field(max_length=10)]


@dataclass(frozen=True)
class Evaluation:
    """What a detector did on a test set.

    Attributes:
        metrics: flat: what `urd.metrics.evaluate` gives, the protocol, and what was measured.
        images, curves: as `Details`.
        failures: images that could not be judged.
    """

    metrics: dict[str, Any]
    images: list[JudgedImage]
    curves: dict[str, Curve]
    failures: list[Failure]

    def write(self, run: Path) -> None:
        """Keep it in a run folder: the figures, and what a report needs beside them."""
        details = {"images": [image.row() for image in self.images], "curves": self.curves}
        folder = RunFolder(run)
        figures = json_text(self.metrics)
        write_texts({folder.evaluation_details: json_text(details), folder.evaluation: figures})


def read_evaluation(run: Path, weights: str | None) -> Evaluation | None:
    """What `Evaluation.write` has left in a run folder; `None` where there is nothing.

    Args:
        weights: fingerprint of the model of today, `Engine.weights_sha256`.

    Raises:
        UrdError: one of the files cannot be read or is missing, or they are of another model or of
            two calls.
    """
    folder = RunFolder(run)
    figures = _read(folder.evaluation, Figures) if run.is_dir() else None
    if figures is None:  # details without figures are of a call that was killed
        return None
    metrics = figures.model_dump()
    if metrics.get("weights_sha256", weights) != weights:
        raise UrdError(f"{folder.evaluation} is of another model: run urd evaluate anew")
    details = read_details(run)
    judged = sum(image.judged for image in details.images) if details is not None else 0
    if details is None or judged != metrics["n_good"] + metrics["n_defective"]:
        raise UrdError(
            f"{folder.evaluation} and {folder.evaluation_details.name} do not belong together: run "
            "urd evaluate anew"
        )
    failures = [Failure(Path(i.path), i.reason or "") for i in details.images if not i.judged]
    return Evaluation(metrics, details.images, details.curves, failures)


def read_details(run: Path) -> Details | None:
    """The images and curves that `Evaluation.write` has left in a run folder; `None`: none.

    Raises:
        UrdError: the file cannot be read, or was not written by it.
    """
    return _read(RunFolder(run).evaluation_details, Details)


def _read(path: Path, schema: Any) -> Any:
    """`None` where there is no file."""
    refuse_special(path)
    if not path.exists():
        return None
    try:
        return check(schema, read_json(path, _MOST_BYTES))
    except ValueError as error:
        raise UrdError(
            f"{path} cannot be read ({first_line(error)}): run urd evaluate anew"
        ) from error
