"""What the files of an evaluation must hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from urd.errors import quoted
from urd.system.schema import ROUNDING, Ascending, Checked, Count, Name, Open, Score, Share, Text

_MOST_IMAGES = 1_000_000
_MOST_POINTS = 100_000


class JudgedImage(Open):
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


class Curve(Checked):
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


class EvaluationMetrics(Open):
    """`evaluation.json`: flat; every metric and its interval is a share, or undefined."""

    data: Text
    protocol: Text
    n_good: Count
    n_defective: Count

    @model_validator(mode="after")
    def _metrics_are_shares(self) -> EvaluationMetrics:
        refuse_no_shares(self.__pydantic_extra__)
        return self


_OF_METRICS = ("image_", "pixel_", "aupro")


def refuse_no_shares(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if not name.startswith(_OF_METRICS):
            continue
        if value is None:
            continue
        if type(value) not in (int, float) or not -ROUNDING <= value <= 1 + ROUNDING:
            raise ValueError(f"{quoted(name)} is {quoted(value)}, no share")
    ends = [name for name in values if name.startswith(_OF_METRICS) and ":" not in name]
    for end, other in (("_low", "_high"), ("_high", "_low")):
        for name in (name for name in ends if name.endswith(end)):
            if values[name] is None or values.get(name.removesuffix(end) + other) is None:
                raise ValueError(f"the interval {quoted(name)} has one end")
