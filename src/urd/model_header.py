"""What a model file or an exported one carries beside the weights; needs neither torch nor timm."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from urd.calibration import Calibration
from urd.config import FitConfig
from urd.data import Region

FORMAT = 2


@dataclass(frozen=True)
class ModelHeader:
    """What a detector knows beside its weights.

    Attributes:
        config: settings of the training.
        mean, std: the backbone's normalisation of RGB in [0, 1].
        heat_range: the anomaly values at which a heat map's colours begin and end: the median
            score of good images and that of synthetic anomalies on them.
        calibration: scores of good images that training did not see, `None` where there were none.
        synthetic: image scores of held-out images with synthetic anomalies.
        validation: scores on held-out images with synthetic anomalies at the last iteration.
        data: fingerprint and counts of the training images.
        encoder: fingerprint of the pretrained encoder, and where it came from.
        versions: of urd, torch, timm and Python.
        region: where all images alike are inspected, (H, W) bool, kept as a tensor; `None`: all.
    """

    config: FitConfig
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    heat_range: tuple[float, float]
    calibration: Calibration | None = None
    synthetic: tuple[float, ...] = ()
    validation: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    region: Region | None = None

    def to_json(self) -> str:
        content = {"format": FORMAT, **asdict(self), "config": self.config.to_dict()}
        del content["region"]
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> ModelHeader:
        if not text:
            raise ValueError("it has no header of urd")
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise ValueError("it was written by another version of urd")
        config = FitConfig.from_mapping(content.pop("config"), source="the model file")
        for name in ("mean", "std", "heat_range"):
            content[name] = tuple(float(value) for value in content[name])
        content["synthetic"] = tuple(float(score) for score in content.get("synthetic", ()))
        if content["calibration"] is not None:
            content["calibration"] = Calibration.from_dict(content["calibration"])
        return cls(config=config, **content)
