"""The required content of the header of a model file or an exported file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from urd.system.schema import (
    Ascending,
    Checked,
    Count,
    Name,
    Number,
    Open,
    OpenShare,
    Score,
    Share,
    Text,
)

MOST_SIZES = 8  # different sizes of training images; with more, any size is usual
MOST_SCORES = 100_000  # in a calibration, and of synthetic anomalies


class CalibrationFields(Checked):
    scores: Annotated[list[Score], Field(min_length=1, max_length=MOST_SCORES), Ascending]
    peaks: Annotated[list[Score], Field(min_length=1, max_length=MOST_SCORES), Ascending] | None = (
        None
    )
    pixels: Annotated[list[Score], Field(min_length=1, max_length=MOST_SCORES), Ascending]
    source: Text
    false_reject: OpenShare = 0.01
    review: OpenShare = 0.05

    @model_validator(mode="after")
    def _fit_together(self) -> CalibrationFields:
        if not len(self.scores) == len(self.peaks or self.scores) == len(self.pixels):
            raise ValueError("scores, peaks and pixels must have the same length")
        return self


_Size = Annotated[list[Count], Field(min_length=2, max_length=2)]


class DataFacts(Open):
    """Facts of the training images; empty if the networks were not trained from a folder.

    Attributes:
        brightness: the lowest, median and highest mean value of an image, 0 to 255.
        grey: whether all images are grey; `None`: some are, or it is not known.
        image_sizes: (height, width) of the images; `None`: too many different ones.
    """

    fingerprint: Name | None = None
    synthesis_fingerprint: Name | None = None
    train_images: Count | None = None
    holdout_images: Count | None = None
    skipped: Count | None = None
    textures: Count | None = None
    foreground: Text | None = None
    region_of_interest: Literal["one per image", "one for all images"] | None = None
    brightness: (
        Annotated[list[Annotated[float, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]
        | None
    ) = None
    grey: bool | None = None
    image_sizes: Annotated[list[_Size], Field(min_length=1, max_length=MOST_SIZES)] | None = None

    def with_foreground(self, foreground: str) -> DataFacts:
        return self.model_copy(update={"foreground": foreground})


class EncoderFacts(Open):
    """The pretrained encoder with which a training started.

    Attributes:
        pretrained: its weights were trained.
        signed: its levels hold negative values.
        expert_used: a frozen copy of it taught the teacher.
    """

    tag: Name | None = None
    sha256: Name | None = None
    pretrained: bool | None = None
    signed: bool | None = None
    expert_used: bool | None = None


class Header(Checked):
    """The header of a model file or an exported file; `config` is checked by `FitConfig`."""

    format: Literal[2]
    config: dict[Name, Any]
    mean: Annotated[list[Share], Field(min_length=3, max_length=3)]
    std: Annotated[
        list[Annotated[float, Field(ge=1e-4, le=1e4)]], Field(min_length=3, max_length=3)
    ]
    heat_range: Annotated[list[Score], Field(min_length=2, max_length=2)]
    calibration: CalibrationFields | None
    synthetic: Annotated[list[Score], Field(default=[], max_length=MOST_SCORES)]
    validation: Annotated[dict[Name, Number], Field(max_length=100)]
    data: DataFacts
    encoder: EncoderFacts
    score: Annotated[dict[Name, Any], Field(default={})]  # checked by `Score`
    versions: Annotated[dict[Name, Name], Field(max_length=100)]

    @model_validator(mode="after")
    def _rising(self) -> Header:
        if not self.heat_range[0] < self.heat_range[1]:
            raise ValueError("heat_range does not rise")
        return self
