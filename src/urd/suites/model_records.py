"""The result of a job that trains one model, and the list of all models of `urd fit-all`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from urd.model.schema import EncoderFacts
from urd.suites.records import Identity, MachineFacts
from urd.system.documents import MIB
from urd.system.schema import Checked, Count, Name, Number, Share, Text, read_checked

LIST_NAME, PAGE_NAME = "models.json", "models.html"
_MOST_BYTES = 64 * MIB


class HeldOut(Checked):
    """The held-out good images by verdict, and the thresholds that come from these images.

    Attributes:
        review, reject: the thresholds.
        bound: 95 % upper bound of the share of good images above `reject`.
        warning: what to do if there are too few images; empty if there are enough.
    """

    ok: Count
    to_review: Count
    rejected: Count
    review: Number
    reject: Number
    bound: Share
    warning: Text


class FittedModel(Identity):
    """The result of a job that trained a model.

    Attributes:
        seconds: of the training; `None` if it was stopped and continued.
        held_out: `None`: there were no held-out images, so there are no thresholds.
    """

    seconds: Number | None
    train_images: Count
    holdout_images: Count
    skipped_images: Count
    held_out: HeldOut | None
    encoder: EncoderFacts
    precision: Text
    machine: MachineFacts


class ListedModel(FittedModel):
    """A model in the list. `run` and `report` are paths below OUT, with `/` between folders."""

    run: Text
    report: Text


class Failed(Checked):
    """A category without a model of its present images, and the reason."""

    category: Name
    reason: str


class ModelList(Checked):
    """OUT/models.json.

    Attributes:
        models: by category. One may be of earlier images: then its category is also in `failed`
            or `waiting`.
        waiting: categories that are not yet trained.
        gone: categories of `models` that are not below `root` any more.
    """

    root: Text
    models: list[ListedModel]
    failed: list[Failed]
    waiting: list[Name]
    gone: list[Name]


def read_model_list(path: Path) -> ModelList:
    """The list in OUT.

    Raises:
        UrdError: the file is damaged.
    """
    return _read(path, ModelList)


def read_model_result(path: Path) -> FittedModel:
    """The result of a job.

    Raises:
        UrdError: the file is damaged.
    """
    return _read(path, FittedModel)


def _read(path: Path, schema: Any) -> Any:
    return read_checked(schema, path, _MOST_BYTES, "is not a file of urd fit-all", "move it away")
