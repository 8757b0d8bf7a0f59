"""Messages between the process of a suite and its jobs: orders and results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from urd.errors import UrdError, first_line
from urd.evaluation.schema import refuse_no_shares
from urd.model.schema import EncoderFacts
from urd.system.documents import MIB, read_json
from urd.system.schema import (
    Checked,
    Count,
    Name,
    Number,
    Open,
    Text,
    check,
    damaged,
    read_checked,
)

JOB_NAME, RESULT_NAME, LOG_NAME, RUN_NAME = "job.json", "result.json", "log.txt", "run"
MEASURED_IN = "float32"  # on every machine, so that results compare trainings and not rounding
RESULTS_NAME = "results.json"
_MOST_BYTES = 64 * MIB
_NO_RESULTS = ("is not a results file of a suite", "move it away")
_LAST = (
    *("protocol", "fit_seconds", "evaluate_seconds"),
    *("training", "encoder", "precision", "machine"),
)


class Identity(Checked):
    """The job that a result belongs to.

    Attributes:
        settings: those of `FitConfig`, without machine options.
        textures: `procedural` or `a folder`.
        method_version: `urd.method_version` when the job ran.
    """

    digest: Name
    data: Name
    category: Name
    settings: dict[Name, Any]
    textures: Text
    method_version: Count


class JobOrder(Checked):
    """The order of a suite to a job. `FitConfig` checks `options`.

    Attributes:
        purpose: `figures` of a labelled test set, or a `model` with its report.
        resamples: for the intervals of the figures.
    """

    data_path: Text
    options: dict[Name, Any]
    resamples: Annotated[int, Field(ge=0, le=1_000_000)]
    identity: Identity
    purpose: Literal["figures", "model"] = "figures"

    def with_options(self, **options: Any) -> JobOrder:
        """The same order with other options, such as the free device."""
        return self.model_copy(update={"options": {**self.options, **options}})


class MachineFacts(Open):
    cpu: Text
    threads: Count | None = None
    gpu: Text | None


class BenchmarkResult(BaseModel):
    """The result of a job: its identity, the measured figures, and the conditions.

    Attributes:
        method_version: missing in results of version 0.1.
        fit_seconds: `None` for a training that was stopped and continued.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)
    __pydantic_extra__: dict[Name, Any]
    digest: Name
    data: Name
    category: Name
    settings: dict[Name, Any]
    textures: Text
    method_version: Count | None = None
    protocol: Text
    fit_seconds: Number | None = None
    evaluate_seconds: Number | None = None
    training: dict[Name, Any] = Field(default={})
    encoder: EncoderFacts
    precision: Text = ""
    machine: MachineFacts

    @model_validator(mode="after")
    def _tables_can_show_it(self) -> BenchmarkResult:
        refuse_no_shares(self.measured)
        if type(self.settings.get("seed")) is not int:
            raise ValueError("the settings have no seed")
        if self.encoder.pretrained is None:
            raise ValueError("it does not say if the encoder is pretrained")
        return self

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def measured(self) -> dict[str, Any]:
        """Metrics as shares, their intervals, and counts of images, as in `evaluation.json`."""
        return self.__pydantic_extra__

    def percent(self, metric: str) -> float | None:
        """A metric or an end of its interval, in percent; `None` if it was not measured."""
        share = self.measured.get(metric)
        return None if share is None else 100 * float(share)

    def to_json(self) -> dict[str, Any]:
        """The content as in the file: keys that were missing when it was read stay missing."""
        content = self.model_dump(exclude_unset=True)
        last = {key: content.pop(key) for key in _LAST if key in content}
        return content | last


def read_results(path: Path) -> list[BenchmarkResult]:
    """The results in a suite's `results.json`.

    Raises:
        UrdError: the file is damaged.
    """
    return _read_results(path, list[BenchmarkResult])


def read_result(path: Path) -> BenchmarkResult:
    """The result in a job's `result.json`.

    Raises:
        UrdError: the file is damaged.
    """
    return _read_results(path, BenchmarkResult)


def _read_results(path: Path, schema: Any) -> Any:
    return read_checked(schema, path, _MOST_BYTES, *_NO_RESULTS)


def not_results(path: Path, reason: str) -> UrdError:
    """The error for a damaged file of results."""
    what, then = _NO_RESULTS
    return damaged(path, what, reason, then)


def read_order(path: Path) -> JobOrder:
    """The order of a job.

    Raises:
        UrdError: the file is damaged.
    """
    try:
        order: JobOrder = check(JobOrder, read_json(path, MIB))
    except ValueError as error:
        raise UrdError(f"{path} is not an order of a suite: {first_line(error)}") from error
    return order
