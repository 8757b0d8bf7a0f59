"""What a detector says of one image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from urd.data import Region
from urd.errors import NotJudged
from urd.inspection.calibration import Calibration, Verdict
from urd.inspection.defects import Defect
from urd.inspection.judge import Inspection, judge


@dataclass(frozen=True)
class Prediction:
    """What the detector says of one image.

    Attributes:
        score: maximum of the anomaly map; higher is more anomalous.
        anomaly_map: (H, W) float32 at the network's input size.
        size: (height, width) of the original image, upright.
        path: the file, `None` for images given as arrays.
        verdict: OK, REVIEW or NG; `None` without calibration, as the two below. An image that could
            not be judged is a `Failure`, whose verdict is ERROR, and never a prediction.
        calibrated: the score brought to (0, 1), 0.5 where OK ends.
        defects: regions, the largest first; none where the verdict is OK.
        picture: the image, upright RGB, reduced to what was asked for; `None`: not asked for.
        region: (H, W) bool, what was inspected; the map is 0 elsewhere. `None`: all of it.

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
    region: Region | None = None
    picture: Image.Image | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.score) and np.isfinite(self.anomaly_map).all()):
            raise NotJudged(self.path or Path("image"), "its anomaly map holds NaN or Inf")

    def judged(self, calibration: Calibration | None, inspection: Inspection) -> Prediction:
        """With verdict, calibrated score and defects; the same prediction without calibration."""
        if calibration is None:
            return self
        judgement = judge(
            self.anomaly_map, self.score, self.size, calibration, inspection, self.region
        )
        return replace(
            self,
            verdict=judgement.verdict,
            calibrated=judgement.calibrated,
            defects=judgement.defects,
        )
