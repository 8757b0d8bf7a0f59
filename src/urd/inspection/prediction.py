"""The result for one image: a prediction, or a failure if it cannot be judged."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from urd.data import Roi, read_rgb
from urd.errors import NotJudged, UsageError
from urd.inspection.calibration import Verdict
from urd.inspection.defects import Defect
from urd.inspection.judgement import judgement
from urd.inspection.legend import Scale
from urd.inspection.pictures import MAX_SIDE, blend, overlay


@dataclass(frozen=True, repr=False)
class Prediction:
    """The judgement of one image.

    Attributes:
        score: the image score; higher is more anomalous.
        anomaly_map: (H, W) float32 at the network's input size.
        size: (height, width) of the original image, upright.
        path: the file; `None` for images that were given as arrays.
        verdict: OK, REVIEW or NG; `None` without calibration. An image that cannot be judged is
            a `Failure` with the verdict ERROR, never a prediction.
        calibrated: the score as a number in (0, 1); 0.5 is the limit of OK. `None` without
            calibration.
        defects: the highest peak first; empty if the verdict is OK or without calibration.
        roi: (H, W) bool, the inspected pixels; the map is 0 elsewhere. `None`: all pixels.
        picture: the image, upright RGB, reduced as requested; `None` if not requested.
        heat_range: the anomaly values of the first and the last colour of `overlay`.
        marks: the values of the map at the marks REVIEW and NG of its colour bar; `None` without
            calibration.

    Raises:
        NotJudged: the score or a value of the map is NaN or Inf.
    """

    score: float
    anomaly_map: np.ndarray
    size: tuple[int, int]
    path: Path | None = None
    verdict: Verdict | None = None
    calibrated: float | None = None
    defects: list[Defect] = field(default_factory=list)
    roi: Roi | None = None
    picture: Image.Image | None = None
    heat_range: tuple[float, float] | None = None
    marks: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.score) and np.isfinite(self.anomaly_map).all()):
            raise NotJudged(self.path or Path("image"), "its anomaly map has NaN or Inf")

    def __repr__(self) -> str:
        name = f"{self.path.name!r}, " if self.path else ""
        verdict = f"{self.verdict}, " if self.verdict else ""
        height, width = self.size
        defects = f", {len(self.defects)} defects" if self.defects else ""
        return f"Prediction({name}{verdict}score {self.score:.4f}, {width}x{height} px{defects})"

    def to_dict(self) -> dict[str, Any]:
        """The judgement as plain values, as in rows of files and in messages; without the map.

        `urd/inspection/judgement.schema.json` describes it.
        """
        height, width = self.size
        return judgement(
            self.path,
            self.verdict,
            score=self.score,
            calibrated=self.calibrated,
            defects=self.defects if self.verdict else None,
            width=width,
            height=height,
        )

    def map_at(self, size: tuple[int, int]) -> np.ndarray:
        """The anomaly map resized to (height, width), bilinear; the image has `self.size`."""
        return cv2.resize(self.anomaly_map, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)

    def overlay(self, image: Image.Image | None = None, max_side: int = MAX_SIDE) -> Image.Image:
        """The image with its anomaly map over it, numbered defects, and a legend below.

        Args:
            image: upright RGB; `None`: the kept picture, or the file, which is read again.
            max_side: pixels of the longer side of larger images; 0 keeps every pixel.

        Raises:
            UsageError: the image was given as an array and not kept, so it must be passed.
            UnreadableImage: the file can no longer be read.
        """
        return overlay(
            image or self._image(),
            self.anomaly_map,
            self.scale,
            self.score,
            self.verdict,
            self.defects,
            width=self.size[1],
            roi=self.roi,
            max_side=max_side,
        )

    @property
    def scale(self) -> Scale:
        """The colours of its heat map."""
        low, high = self.heat_range or (0.0, max(self.score, 1e-6))
        return Scale(low, high, *(self.marks or (None, None)))

    def _image(self) -> Image.Image:
        if self.picture is not None:
            return self.picture
        if self.path is None:
            raise UsageError("the image was given as an array: call prediction.overlay(image)")
        return read_rgb(self.path)

    def _repr_png_(self) -> bytes:
        """The picture in a notebook: the overlay, or the map alone if there is no image."""
        if self.picture is None and self.path is None:
            black = np.zeros((*self.anomaly_map.shape, 3), np.uint8)
            heat_range = self.scale.low, self.scale.high
            shown = Image.fromarray(blend(black, self.anomaly_map, heat_range))
        else:
            shown = self.overlay()
        content = io.BytesIO()
        shown.save(content, "PNG")
        return content.getvalue()


@dataclass(frozen=True)
class Failure:
    """An image that cannot be judged, with the reason. Its verdict is ERROR."""

    path: Path
    reason: str

    @property
    def verdict(self) -> Literal["ERROR"]:
        return "ERROR"

    def to_dict(self) -> dict[str, Any]:
        """The judgement as plain values, like `Prediction.to_dict`."""
        return judgement(self.path, self.verdict, error=self.reason)
