"""One job: train, evaluate, and leave the result.

FOLDER/job.json says what to do, FOLDER/result.json holds what came out. Every executor starts it in
a process of its own.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from urd.config import FitConfig
from urd.detector import Detector
from urd.errors import NotWritten, UrdError, first_line
from urd.model.run_folder import RunFolder
from urd.suites.records import (
    JOB_NAME,
    RESULT_NAME,
    RUN_NAME,
    BenchmarkResult,
    JobOrder,
    read_order,
    read_result,
)
from urd.system.files import write_json
from urd.system.machine import machine, precision_on

_OF_THE_RUN = ("data", "weights_sha256")  # what a result says otherwise, or not


def run_job(folder: Path) -> BenchmarkResult:
    """Train, or go on training, evaluate, and write the result.

    Raises:
        UrdError: the order is damaged, or the work failed.
    """
    order = _order(folder / JOB_NAME)
    detector, seconds = _fitted(order, folder / RUN_NAME)
    began = time.monotonic()
    # In float32 on every machine: what is compared are trainings, not roundings.
    detector = detector.in_precision("float32")
    measured = _measured(detector, order)
    content = {
        **order.identity.model_dump(),
        **{key: value for key, value in measured.items() if key not in _OF_THE_RUN},
        "fit_seconds": seconds,
        "evaluate_seconds": round(time.monotonic() - began, 1),
        "training": detector.header.data.to_dict(),
        "encoder": detector.header.encoder.to_dict(),
        "precision": precision_on(detector.device, detector.config.precision),
        "machine": machine(detector.device),
    }
    write_json(folder / RESULT_NAME, content)
    return read_result(folder / RESULT_NAME)


def _order(path: Path) -> JobOrder:
    order = read_order(path)
    try:
        FitConfig.from_mapping(order.options, source="the order")
    except ValueError as error:
        raise UrdError(f"{path} is not an order of a suite: {first_line(error)}") from error
    return order


def _fitted(order: JobOrder, run: Path) -> tuple[Detector, float | None]:
    """The trained detector and the seconds that it took; a continued run has no such time."""
    if RunFolder(run).has_begun:
        try:
            return Detector.fit(order.data_path, run, resume=True, **order.options), None
        except NotWritten:  # a full disk, or another process at work
            raise
        except UrdError:  # whatever a killed job has left, the job can be done from its beginning
            shutil.rmtree(run)
    began = time.monotonic()
    detector = Detector.fit(order.data_path, run, **order.options)
    return detector, round(time.monotonic() - began, 1)


def _measured(detector: Detector, order: JobOrder) -> dict[str, Any]:
    evaluation = detector.evaluation(order.data_path, resamples=order.resamples)
    measured = evaluation.metrics
    if measured["n_not_judged"]:
        first = evaluation.failures[0]
        raise UrdError(
            f"{measured['n_not_judged']} test images could not be judged, so the figures would be "
            f"of another test set; first {first.path}: {first.reason}"
        )
    return measured
