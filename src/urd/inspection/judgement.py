"""A judgement as plain values: one definition for rows in files, answers and messages.

`judgement.schema.json` beside this file is the JSON Schema for other programs.
`python -m urd.inspection.judgement` writes it again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from urd.inspection.calibration import Verdict
from urd.system.files import printable

if TYPE_CHECKING:
    from urd.inspection.defects import Defect as FoundDefect

VERSION = 1  # rises when a field changes its meaning or is removed, not for a new field
SCHEMA_FILE = Path(__file__).with_name("judgement.schema.json")


def judgement(
    path: Path | None,
    verdict: Verdict | None,
    *,
    score: float | None = None,
    calibrated: float | None = None,
    defects: Sequence[FoundDefect] | None = None,
    width: int | None = None,
    height: int | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """The judgement of one image. Others fill in `overlay`, `map` and `camera`.

    Args:
        verdict: `None`: the detector has no thresholds and does not look for defects.
        width, height: of the image, in pixels.
        error: why the image was not judged, or which file could not be written.
    """
    return {
        "version": VERSION,
        "path": None if path is None else printable(path),
        "verdict": verdict,
        "score": score,
        "calibrated": calibrated,
        "n_defects": None if defects is None else len(defects),
        "width": width,
        "height": height,
        "overlay": None,
        "map": None,
        "error": error,
        "camera": [],
        "defects": [asdict(defect) for defect in defects or ()],
    }


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a judgement."""
    from pydantic import BaseModel, ConfigDict, Field

    class Defect(BaseModel):
        """A connected part of the image that is not normal; points in image pixels."""

        model_config = ConfigDict(extra="forbid")
        box: tuple[float, float, float, float] = Field(description="left, top, right, bottom")
        contour: list[tuple[float, float]] = Field(description="outline, as points (x, y)")
        area: float = Field(description="in pixels")
        area_mm2: float | None = Field(description="null: the scale is not known")
        peak: float = Field(description="highest value of the anomaly map inside")
        mean: float = Field(description="mean value of the anomaly map inside")
        centroid: tuple[float, float]

    class Judgement(BaseModel):
        """The judgement of one image."""

        model_config = ConfigDict(title="Judgement", extra="allow")
        version: Literal[1]
        path: str | None = Field(description="the image file; null: the image was an array")
        verdict: Verdict | None = Field(
            description="ERROR: not judged, error says why; null: the detector has no thresholds"
        )
        score: float | None = Field(description="score of the image; null: ERROR")
        calibrated: Annotated[float, Field(ge=0, le=1)] | None = Field(
            description="score in 0..1; 0.5 is the limit of OK"
        )
        n_defects: int | None
        width: int | None = Field(description="of the image, in pixels")
        height: int | None
        overlay: str | None = Field(description="picture, relative to the folder of the rows")
        map: str | None = Field(description="anomaly map, relative to the folder of the rows")
        error: str | None
        camera: list[str] = Field(description="what is odd about the image itself, in words")
        defects: list[Defect]

    return Judgement.model_json_schema()


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
