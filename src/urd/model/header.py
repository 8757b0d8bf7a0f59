"""The header of model files and exported files: all but the weights. Needs no torch, no timm."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from urd.config import FitConfig, options
from urd.data import Roi
from urd.errors import UrdError
from urd.inspection.calibration import Calibration
from urd.inspection.score import PAPER, Score
from urd.model.schema import DataFacts, EncoderFacts, Header
from urd.system.documents import MIB, parse_json
from urd.system.schema import CHECKSUM, check

FORMAT = 2
MOST_CHARACTERS = 16 * MIB
_BEFORE = {"warm_up": 0, "schedule": "constant"}  # in files of version 0.1, which do not say it


@dataclass(frozen=True)
class ModelHeader:
    """The facts of a detector besides its weights.

    Attributes:
        config: settings of the training.
        mean, std: the backbone's normalisation of RGB in [0, 1].
        heat_range: the anomaly values at which the colours of a heat map begin and end: the median
            scores of good images and of synthetic anomalies on them.
        calibration: scores of good images that training did not see; `None`: there were none.
        synthetic: image scores of held-out images with synthetic anomalies.
        validation: metrics on held-out images with synthetic anomalies at the last iteration.
        data: fingerprints and counts of the training images.
        encoder: which pretrained encoder it is, and whether an expert was used.
        score: how map and image score are made of features.
        versions: what rounding depends on: versions of urd, torch, timm and Python, and the number
            of threads of the training.
        roi: the region inspected in all images, (H, W) bool, saved as a tensor; `None`: all.
    """

    config: FitConfig
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    heat_range: tuple[float, float]
    calibration: Calibration | None = None
    synthetic: tuple[float, ...] = ()
    validation: dict[str, float] = field(default_factory=dict)
    data: DataFacts = DataFacts()
    encoder: EncoderFacts = EncoderFacts()
    score: Score = PAPER
    versions: dict[str, str] = field(default_factory=dict)
    roi: Roi | None = None

    def content(self) -> dict[str, Any]:
        """The header as plain JSON values, without the region.

        Raises:
            UrdError: a value cannot be read back, for example a score that is NaN.
        """
        fields = {
            **asdict(self),
            "config": self.config.to_dict(),
            "data": self.data.to_dict(),
            "encoder": self.encoder.to_dict(),
            "score": self.score.model_dump(),
        }
        del fields["roi"]
        content = {"format": FORMAT, **_plain(fields)}
        try:
            check(Header, content)
        except ValueError as error:
            raise UrdError(f"the model's header cannot be written: {error}") from error
        return content

    def without_paths(self) -> ModelHeader:
        """A copy with the names of files and folders, but not their places on this machine."""
        config = self.config.to_dict()
        config |= {name: _name(config[name]) for name in options(path=True)}
        calibration = self.calibration
        if calibration is not None:
            calibration = replace(calibration, source=_name(calibration.source))
        foreground = self.data.foreground
        data = self.data if foreground is None else self.data.with_foreground(_name(foreground))
        settings = FitConfig.from_mapping(config)
        return replace(self, config=settings, calibration=calibration, data=data)

    def to_json(self) -> str:
        """`content` as text.

        Raises:
            UrdError: as in `content`.
        """
        return json.dumps(self.content(), allow_nan=False)

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> ModelHeader:
        """Check the result of `content` and make a header of it.

        Raises:
            ValueError: the content is wrong; one line names the first problem.
        """
        if content.get("format") != FORMAT:
            raise ValueError("it was written by another version of urd")
        check(Header, content)
        fields = {key: value for key, value in content.items() if key != "format"}
        settings = {**_BEFORE, **fields["config"]}
        fields["config"] = FitConfig.from_mapping(settings, source="the model file")
        for name in ("mean", "std", "heat_range"):
            fields[name] = tuple(float(value) for value in fields[name])
        fields["data"] = DataFacts(**fields["data"])
        fields["encoder"] = EncoderFacts(**fields["encoder"])
        fields["score"] = Score.from_dict(fields.get("score", {}))
        fields["synthetic"] = tuple(float(score) for score in fields.get("synthetic", ()))
        if fields["calibration"] is not None:
            fields["calibration"] = Calibration.from_dict(fields["calibration"])
        return cls(**fields)

    @classmethod
    def from_json(cls, text: str) -> ModelHeader:
        """Parse a text from `to_json`, or the header text of a model file with its checksum.

        Raises:
            ValueError: the text is wrong; one line names the first problem.
        """
        if not text:
            raise ValueError("it has no header of urd")
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"its header has over {MOST_CHARACTERS} characters")
        content = parse_json(text)
        if not isinstance(content, dict):
            raise ValueError("its header is not a dictionary")
        content.pop(CHECKSUM, None)
        return cls.from_content(content)


def _name(text: str) -> str:
    """The last part of a path; a text without a slash does not change."""
    return Path(text).name or Path(text).absolute().name if text else text


def _plain(value: Any) -> Any:
    """The value with tuples as lists: JSON has no tuples."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
