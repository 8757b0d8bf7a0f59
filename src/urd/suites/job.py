"""One job: train, evaluate, and write the result.

FOLDER/job.json is the order, FOLDER/result.json is the result. Each executor starts a job in its
own process.
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

_OF_THE_RUN = ("data", "weights_sha256")  # not in a result: it has other keys for them, or none


def run_job(folder: Path) -> BenchmarkResult:
    """Train, or continue a training, evaluate, and write the result.

    Raises:
        UrdError: the order is damaged, or the work failed.
    """
    order = _order(folder / JOB_NAME)
    detector, seconds = _fitted(order, folder / RUN_NAME)
    began = time.monotonic()
    # float32 on every machine, so that results compare trainings and not rounding.
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
    """The trained detector and its training time in seconds; `None` for a continued run."""
    if RunFolder(run).has_begun:
        try:
            return Detector.fit(order.data_path, run, resume=True, **order.options), None
        except NotWritten:  # a full disk, or another process writes there
            raise
        except UrdError:  # the files of a killed job are damaged: begin again
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
            f"{measured['n_not_judged']} test images cannot be judged, so the figures would not "
            f"cover the whole test set; first {first.path}: {first.reason}"
        )
    return measured
