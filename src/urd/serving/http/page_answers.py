"""What the routes of the page take and give, for checks of requests and for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from urd.inspection.calibration import Verdict

MOST_SEQUENCE = 2**53  # JavaScript counts so far
_MOST_SCORE = 1e9
_VISIBLE = r"[^\s\x00-\x1f\x7f]"  # at least one character that can be seen


def _whole(value: Any) -> Any:
    """In JSON, 5.0 is an integer, too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# The bounds stand before the validator, or OpenAPI would not show them.
Sequence = Annotated[int, Field(ge=1, le=MOST_SEQUENCE), BeforeValidator(_whole)]
_Last = Annotated[int, Field(ge=1, le=10_000), BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=-_MOST_SCORE, le=_MOST_SCORE, allow_inf_nan=False)]
_Pair = Annotated[list[int | float], Field(min_length=2, max_length=2)]
Said = Annotated[str, Field(min_length=1, max_length=500, pattern=_VISIBLE)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=_VISIBLE)]


class _Request(BaseModel):
    """A misspelt field is refused, not passed over."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Decision(_Request):
    """What a person decides about a part."""

    decision: Literal["accept", "reject"] = Field(description="accept: the part is good")
    person: Name
    reason: str = Field("", max_length=500)


class Wanted(_Request):
    """Thresholds for image scores; null for both: as calibrated."""

    review: Score | None = Field(description="scores above it are REVIEW")
    reject: Score | None = Field(description="scores above it are NG; not below review")


class PreviewRequest(Wanted):
    last: _Last = Field(500, description="of the last so many parts")


class ChangeRequest(Wanted):
    person: Name
    reason: Said
    change_seen: Sequence | None = Field(
        description="the number of the change that the person saw in force; null: none"
    )


class Review(BaseModel):
    """The last decision of a person about a part."""

    decision: Literal["accept", "reject"]
    person: str
    reason: str
    time: str = Field(description="UTC")


class Judgement(BaseModel):
    """A row of the store: a judgement (urd/inspection/judgement.schema.json) and more."""

    model_config = ConfigDict(extra="allow")
    sequence: int = Field(description="rises with each judgement of the line")
    time: str = Field(description="UTC")
    verdict: Verdict | None
    score: float | None
    part: str | None
    model: str
    model_sha256: str
    thresholds: dict[str, Any] | None = Field(description="those in force at that time")
    camera: list[str] = Field(description="what was odd about the image itself")
    error: str | None
    defects: list[dict[str, Any]]
    reviewed: Review | None
    kept: bool = Field(description="whether the line kept the image; it may be pruned since")


class Judgements(BaseModel):
    judgements: list[Judgement] = Field(description="the newest first")


class Counts(BaseModel):
    total: Count
    counts: dict[str, Count] = Field(description="by verdict")


class LimitFacts(BaseModel):
    """A threshold, and what to expect of good parts."""

    threshold: float
    expected: Share = Field(description="expected share of good parts above it")
    bound: Share = Field(description="the share is at most so large, with 95 % confidence")


class Pair(BaseModel):
    review: LimitFacts
    reject: LimitFacts


class Change(BaseModel):
    """A change of thresholds: who, why, when."""

    id: int
    time: str = Field(description="UTC")
    review: float | None = Field(description="null: as calibrated")
    reject: float | None
    person: str
    reason: str


class ThresholdFacts(BaseModel):
    model: str
    model_sha256: str
    change: int | None = Field(description="the number of the change in force; null: none")
    in_force: Pair
    calibrated: Pair
    good: Count = Field(description="good images of the calibration")
    changes: list[Change] = Field(description="the newest first, at most 100")


class Scores(BaseModel):
    scores: list[_Pair] = Field(description="sequence and score, the oldest first")
    thresholds: dict[str, Any] = Field(description="in force: review, reject, change")
    good: list[float] = Field(
        description="scores of the good images of the calibration, rising; of over 2,000 images, "
        "2,000 evenly chosen"
    )


class ChangedPart(BaseModel):
    sequence: int
    score: float
    before: Verdict
    after: Verdict


class PreviewAnswer(BaseModel):
    parts: Count = Field(description="how many were compared")
    before: dict[str, Count]
    after: dict[str, Count]
    changed: Count
    to: dict[str, Count] = Field(description="the verdicts that the changed parts get")
    examples: list[ChangedPart] = Field(description="the newest first, at most 100")
    thresholds: Pair


class StoreState(BaseModel):
    ok: bool
    problem: str | None


class Newest(BaseModel):
    sequence: int
    time: str = Field(description="UTC")
    age_seconds: float


class Waiting(BaseModel):
    """Events of one receiver that are not sent."""

    waiting: Count
    parked: Count = Field(description="the receiver refused them for good")
    error: str | None


class ReceiverState(BaseModel):
    """A receiver to which this server sends."""

    name: str
    connected: bool | None = Field(description="null: not yet tried, or another process sends")
    standby: bool = Field(description="another process sends to it")
    error: str | None
    since: str | None = Field(description="when the error began, UTC")


class CameraState(BaseModel):
    sequence: int
    messages: list[str]


class ModelState(BaseModel):
    name: str
    model_sha256: str
    engine: str
    change: int | None
    review: float
    reject: float


class Status(BaseModel):
    line: str = Field(description="the name of the store's file without its ending")
    keep: str = Field(description="which images are kept: all, rejects+sample or none")
    store: StoreState
    newest: Newest | None
    outbox: dict[str, Waiting]
    parked: Count
    receivers: list[ReceiverState]
    camera: CameraState | None = Field(description="of the newest odd image of the last 8")
    models: list[ModelState]
