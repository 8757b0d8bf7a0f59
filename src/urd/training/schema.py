"""The required content of a checkpoint and of a line of the training curve."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from urd.system.schema import Checked, Count, Name, Number, Open, Score, Text


class Checkpoint(Checked):
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
    threads: Annotated[int, Field(ge=1, le=100_000)] | None = None
    planned: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    distances: Annotated[dict[Name, Number], Field(max_length=100_000)] | None = None


class GoodImageDistance(Checked):
    """A row of `unlike.json`: a training image, and how far it is from all other ones."""

    path: Text
    distance: Score


class CurveLine(Open):
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
