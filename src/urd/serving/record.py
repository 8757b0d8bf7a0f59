"""One row of a store: a judgement with its circumstances, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Record:
    """A judgement and its circumstances, before it is stored.

    Attributes:
        judgement: as `Prediction.to_dict` and `Failure.to_dict` give it.
        source: watch or serve.
        model: the name of the model on this line. model_sha256: identifies its file.
        engine: what computed it, such as "onnx cpu int8".
        thresholds: those in force; `None`: the model has none.
        time: seconds since 1970, UTC, when the image was judged.
        milliseconds: from the first byte of the image to the judgement.
        part: the identity of the part, if the sender gave one.
        content: SHA-256 of the image file.
        camera: what is odd about the image itself, in words.
        key: two records with the same key are one row; `None`: always a new row.
        image: the kept image, relative to the folder of images; `None`: not kept.
        waited: seconds from the complete file to `time`; an image of a backlog has waited long.
    """

    judgement: dict[str, Any]
    source: str
    model: str
    model_sha256: str
    engine: str
    thresholds: dict[str, Any] | None
    time: float
    milliseconds: float
    part: str | None = None
    content: str | None = None
    camera: tuple[str, ...] = ()
    key: str | None = None
    image: str | None = None
    heat_range: tuple[float, float] | None = None
    waited: float = 0.0

    def body(self) -> dict[str, Any]:
        """The record in the one schema of judgements, with further fields."""
        return {
            **self.judgement,
            "time": iso(self.time),
            "part": self.part,
            "source": self.source,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "engine": self.engine,
            "thresholds": self.thresholds,
            "heat_range": None if self.heat_range is None else list(self.heat_range),
            "waited_seconds": round(self.waited, 3),
            "milliseconds": round(self.milliseconds, 2),
            "content_sha256": self.content,
            "camera": list(self.camera),
        }


@dataclass(frozen=True)
class Stored:
    """A row of the store.

    Attributes:
        sequence: rises with each row of the store, from 1; never used again.
        body: as `Record.body`.
        image: the kept image, relative to the folder of images.
        review: the last decision of a person; `None`: none.
    """

    sequence: int
    body: dict[str, Any]
    image: str | None = None
    review: dict[str, Any] | None = field(default=None)

    def to_dict(self) -> dict[str, Any]:
        return {"sequence": self.sequence, **self.body, "reviewed": self.review}


def iso(time: float) -> str:
    """A time as text in UTC, to the millisecond, as in 2026-05-01T06:00:00.000Z."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
