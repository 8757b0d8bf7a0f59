"""The answer to an image: the row of the store, and on request the map and a picture."""

from __future__ import annotations

import base64
import io
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from urd.data.images_in_memory import IN_MEMORY
from urd.inspection.judgement import json_schema
from urd.inspection.prediction import Failure, Prediction
from urd.serving.station import Outcome

TOO_LATE, FAILED = "too late: ", "the detector failed: "
_STATUSES = {TOO_LATE: 504, FAILED: 500}


class Map(BaseModel):
    """An anomaly map at the size of the network's input."""

    shape: tuple[int, int] = Field(description="rows, columns")
    dtype: str = Field(description="float32, little-endian, row by row")
    base64: str


class InForce(BaseModel):
    """The thresholds that decided."""

    review: float
    reject: float
    change: int | None = Field(description="number of the change by a person; null: as calibrated")


class Circumstances(BaseModel):
    """What an answer holds besides the judgement."""

    sequence: int | None = Field(description="number of the row in the store; null: not stored")
    time: str = Field(description="UTC, when it was judged")
    part: str | None
    source: str
    model: str
    model_sha256: str
    engine: str
    thresholds: InForce
    heat_range: tuple[float, float] | None = Field(
        description="anomaly values of the first and the last colour of pictures"
    )
    waited_seconds: float = Field(description="0; for files, from the whole file to the judgement")
    milliseconds: float = Field(description="from the request to the judgement")
    content_sha256: str = Field(description="of the image file")
    reviewed: dict[str, Any] | None = Field(description="the last decision of a person")
    stored: bool = Field(description="false: the row is not in the store; problem says why")
    problem: str | None
    repeated: bool = Field(
        description="the Idempotency-Key was used before: this is the earlier row"
    )
    anomaly_map: Map | None = Field(description="with map=1")
    overlay_png: str | None = Field(description="PNG with legend as base64; with overlay=1")


def answer_schemas() -> dict[str, Any]:
    """The schemas of an answer and its parts, for an OpenAPI document."""
    place = "#/components/schemas/"
    judgement = json.loads(json.dumps(json_schema()).replace("#/$defs/", place))
    more = Circumstances.model_json_schema(ref_template=f"{place}{{model}}")
    answer = {
        "title": "Answer",
        "description": "The judgement of an image and what became of it.",
        "type": "object",
        "properties": {**judgement["properties"], **more["properties"]},
        "required": [*judgement["required"], *more["required"]],
    }
    return {**judgement["$defs"], **more["$defs"], "Answer": answer}


@dataclass(frozen=True)
class Wanted:
    """What a request asks for besides the judgement."""

    map: bool = False
    overlay: bool = False


@dataclass(frozen=True)
class Answer:
    """Status of HTTP and JSON."""

    status: int
    body: bytes

    @classmethod
    def of(cls, outcome: Outcome, wanted: Wanted) -> Answer:
        result = outcome.result if outcome.new and isinstance(outcome.result, Prediction) else None
        content = {
            **outcome.row,
            "stored": outcome.stored,
            "problem": outcome.problem,
            "repeated": not outcome.new,
            "anomaly_map": _map(result) if result and wanted.map else None,
            "overlay_png": _overlay(result) if result and wanted.overlay else None,
        }
        body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
        return cls(status_of(outcome.row), body)


def status_of(row: dict[str, Any]) -> int:
    """200 for a verdict; for ERROR 422, but 504 if it came too late and 500 if the engine failed.

    It depends on the row alone, so that a repeated request gets the same status.
    """
    if row["verdict"] != "ERROR":
        return 200
    reason = row["error"] or ""
    return next((code for begin, code in _STATUSES.items() if reason.startswith(begin)), 422)


def too_late(began: float, deadline_ms: float) -> str:
    """Why an image that came at `began` (`time.monotonic()`) gets no verdict any more."""
    passed = 1000 * (time.monotonic() - began)
    return f"{TOO_LATE}{passed:.0f} ms after the image came; the limit is {deadline_ms:g} ms"


def late_outcome(outcome: Outcome, reason: str) -> Outcome:
    """The outcome if writing the row took too long: an ERROR, whatever the row in the store says.

    The sender has given up by now, so it must not get a verdict.
    """
    row = outcome.row
    problem = outcome.problem or f"the row in the store says {row['verdict']}"
    changes: dict[str, Any] = {
        "verdict": "ERROR",
        "score": None,
        "calibrated": None,
        "n_defects": None,
        "error": reason,
        "defects": [],
    }
    failure = Failure(IN_MEMORY, reason)
    return Outcome({**row, **changes}, failure, outcome.stored, outcome.new, problem)


def _map(prediction: Prediction) -> dict[str, Any]:
    values = np.ascontiguousarray(prediction.anomaly_map, "<f4")
    return {
        "shape": list(values.shape),
        "dtype": "float32",
        "base64": base64.b64encode(values.tobytes()).decode(),
    }


def _overlay(prediction: Prediction) -> str:
    out = io.BytesIO()
    prediction.overlay().save(out, "PNG", compress_level=1)
    return base64.b64encode(out.getvalue()).decode()
