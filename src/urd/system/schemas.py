"""What each file that is read back must hold: one definition per kind, checked before any use.

A value that passes has its type, a length, a range and is finite, so that nothing which uses it
later can fail on it. Values are never converted: a text that looks like a number is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from urd.errors import one_line, quoted

CHECKSUM = "file_sha256"  # of a file of tensors, the first field of its header
MOST_SCORES = 100_000  # of a calibration, and synthetic ones
_MOST_IMAGES = 1_000_000
_MOST_POINTS = 100_000
_LONGEST = 4096
_MOST = 1e12
_MOST_WHOLE = 2**63 - 1


def _text(shortest: int, longest: int) -> Callable[[Any], Any]:
    """pydantic's own check of texts refuses the surrogates that stand for odd bytes of file names.

    Those that stand for nothing, and the character 0, are refused here too.
    """

    def check_text(value: Any) -> Any:
        if not isinstance(value, str) or not shortest <= len(value) <= longest or "\0" in value:
            raise ValueError(f"a text of {shortest} to {longest} characters is needed")
        value.encode("utf-8", "surrogateescape")
        return value

    return check_text


Text = Annotated[Any, AfterValidator(_text(0, _LONGEST))]
Name = Annotated[Any, AfterValidator(_text(1, 300))]
Count = Annotated[int, Field(ge=0, le=_MOST_WHOLE)]
Number = Annotated[float, Field(ge=-_MOST, le=_MOST, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
_ROUNDING = 1e-9  # of sums of shares
Share = Annotated[float, Field(ge=-_ROUNDING, le=1 + _ROUNDING, allow_inf_nan=False)]
OpenShare = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _text(0, _LONGEST)(value)
    if value is None or type(value) is bool or (type(value) is int and abs(value) <= _MOST_WHOLE):
        return value
    if type(value) is not float or not abs(value) <= _MOST:
        raise ValueError("a text, a number, true, false or null is needed")
    return value


Scalar = Annotated[Any, AfterValidator(_plain)]


def _ascending(values: list[float]) -> list[float]:
    if any(a > b for a, b in itertools.pairwise(values)):
        raise ValueError("they do not ascend")
    return values


Ascending = AfterValidator(_ascending)


class _Checked(BaseModel):
    """Every field is known, and has its very type."""

    model_config = ConfigDict(strict=True, extra="forbid")


class _Open(_Checked):
    """Fields that are known have their types; others are plain values of a limited size."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[Name, Scalar]

    @model_validator(mode="after")
    def _not_too_many(self) -> _Open:
        if len(self.__pydantic_extra__) > 1000:
            raise ValueError("over a thousand fields")
        return self


class CalibrationFields(_Checked):
    scores: Annotated[list[Score], Field(min_length=1, max_length=MOST_SCORES), Ascending]
    pixels: Annotated[list[Score], Field(min_length=1, max_length=MOST_SCORES), Ascending]
    source: Text
    false_reject: OpenShare = 0.01
    review: OpenShare = 0.05

    @model_validator(mode="after")
    def _fit_together(self) -> CalibrationFields:
        if len(self.scores) != len(self.pixels):
            raise ValueError("as many scores as pixels are needed")
        return self


class DataFacts(_Open):
    """What a model file says of its training images; empty where the networks came otherwise."""

    fingerprint: Name | None = None
    synthesis_fingerprint: Name | None = None
    train_images: Count | None = None
    holdout_images: Count | None = None
    skipped: Count | None = None
    textures: Count | None = None
    foreground: Text | None = None
    region_of_interest: Literal["one per image", "one for all images"] | None = None


class EncoderFacts(_Open):
    tag: Name | None = None
    sha256: Name | None = None
    pretrained: bool | None = None
    expert_used: bool | None = None


class Header(_Checked):
    """The header of a model file or an exported file; `config` is checked by `FitConfig`."""

    format: Literal[2]
    config: dict[Name, Any]
    mean: Annotated[list[Share], Field(min_length=3, max_length=3)]
    std: Annotated[
        list[Annotated[float, Field(ge=1e-4, le=1e4)]], Field(min_length=3, max_length=3)
    ]
    heat_range: Annotated[list[Score], Field(min_length=2, max_length=2)]
    calibration: CalibrationFields | None
    synthetic: Annotated[list[Score], Field(max_length=MOST_SCORES)] = []
    validation: Annotated[dict[Name, Number], Field(max_length=100)]
    data: DataFacts
    encoder: EncoderFacts
    versions: Annotated[dict[Name, Name], Field(max_length=100)]

    @model_validator(mode="after")
    def _rising(self) -> Header:
        if not self.heat_range[0] < self.heat_range[1]:
            raise ValueError("heat_range does not rise")
        return self


class Checkpoint(_Checked):
    """The header of a checkpoint; `settings` are checked by `FitConfig`."""

    iteration: Annotated[int, Field(ge=1, le=10_000_000)]
    settings: dict[Name, Any]
    fingerprint: Name
    synthesis_fingerprint: Name
    train_images: Count
    holdout_images: Count
    skipped: Count
    textures: Count
    foreground: Text
    region_of_interest: Text | None = None


class TensorEntry(_Checked):
    """What the safetensors format says of one tensor."""

    dtype: Name
    shape: Annotated[list[Count], Field(max_length=8)]
    data_offsets: Annotated[list[Count], Field(min_length=2, max_length=2)]


class JudgedImage(_Open):
    """A row of `evaluation_details.json`."""

    path: Text
    defect: Name
    score: Score | None
    verdict: Literal["OK", "REVIEW", "NG", "ERROR"] | None
    reason: Text | None = None

    @model_validator(mode="after")
    def _score_unless_error(self) -> JudgedImage:
        if (self.score is None) != (self.verdict == "ERROR"):
            raise ValueError("an image has a score, or the verdict ERROR")
        if self.verdict == "ERROR" and self.reason is None:
            raise ValueError("an image with the verdict ERROR has a reason")
        return self


Rates = Annotated[list[Share], Field(min_length=2, max_length=_MOST_POINTS)]


class Curve(_Checked):
    """A curve as two lists, of false-positive rates and of rates."""

    x: Annotated[Rates, Ascending]
    y: Rates

    @model_validator(mode="before")
    @classmethod
    def _of_two_lists(cls, value: Any) -> Any:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError("a curve is two lists")
        return {"x": value[0], "y": value[1]}

    @model_validator(mode="after")
    def _equally_long(self) -> Curve:
        if len(self.x) != len(self.y):
            raise ValueError("both lists of a curve are equally long")
        return self


class EvaluationDetails(BaseModel):
    """`evaluation_details.json`; older ones have a list `skipped` beside."""

    model_config = ConfigDict(strict=True, extra="ignore")
    images: Annotated[list[JudgedImage], Field(min_length=1, max_length=_MOST_IMAGES)]
    curves: Annotated[dict[Name, Curve], Field(max_length=10)]


class EvaluationMetrics(_Open):
    """`evaluation.json`: flat; every metric and its interval is a share, or undefined."""

    data: Text
    protocol: Text
    n_good: Count
    n_defective: Count

    @model_validator(mode="after")
    def _metrics_are_shares(self) -> EvaluationMetrics:
        _refuse_no_shares(self.__pydantic_extra__)
        return self


_OF_METRICS = ("image_", "pixel_", "aupro")


def _refuse_no_shares(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if not name.startswith(_OF_METRICS):
            continue
        if value is None:
            continue
        if type(value) not in (int, float) or not -_ROUNDING <= value <= 1 + _ROUNDING:
            raise ValueError(f"{quoted(name)} is {quoted(value)}, no share")
    ends = [name for name in values if name.startswith(_OF_METRICS) and ":" not in name]
    for end, other in (("_low", "_high"), ("_high", "_low")):
        for name in (name for name in ends if name.endswith(end)):
            if values[name] is None or values.get(name.removesuffix(end) + other) is None:
                raise ValueError(f"the interval {quoted(name)} has one end")


class CurveLine(_Open):
    """A line of `metrics.jsonl`: losses and speed, or validation scores."""

    iteration: Count
    loss: Annotated[dict[Name, Number], Field(max_length=20)] | None = None
    images_per_second: Number | None = None
    validation: Annotated[dict[Name, Number | None], Field(max_length=20)] | None = None

    @model_validator(mode="after")
    def _speed_with_losses(self) -> CurveLine:
        if self.loss is not None and self.images_per_second is None:
            raise ValueError("losses without images_per_second")
        return self


class JobOrder(_Checked):
    """What a suite tells a job to do; `options` are checked by `FitConfig`."""

    data_path: Text
    options: dict[Name, Any]
    resamples: Annotated[int, Field(ge=0, le=1_000_000)]
    identity: dict[Name, Any]


class MachineFacts(_Open):
    cpu: Text
    gpu: Text | None


class BenchmarkResult(BaseModel):
    """What a job of a suite leaves."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[Name, Any]
    digest: Name
    data: Name
    category: Name
    settings: dict[Name, Any]
    protocol: Text
    machine: MachineFacts
    encoder: EncoderFacts
    textures: Text
    precision: Text = ""

    @model_validator(mode="after")
    def _tables_can_show_it(self) -> BenchmarkResult:
        _refuse_no_shares(self.__pydantic_extra__)
        if type(self.settings.get("seed")) is not int:
            raise ValueError("its settings have no seed")
        if self.encoder.pretrained is None:
            raise ValueError("it does not say whether its encoder is pretrained")
        return self


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def check(schema: Any, content: Any) -> None:
    """Refuse content that is not what `schema` says.

    Raises:
        ValueError: with the first field that is wrong, in one line.
    """
    try:
        _adapter(schema).validate_python(content)
    except ValidationError as error:
        raise ValueError(_said(error)) from error


def _said(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] == "missing" else f" (it is {quoted(first['input'])})"
    return one_line(f"{one_line(place)[:100]}: {said}{found}" if place else f"{said}{found}")
