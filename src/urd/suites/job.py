"""One job: train, evaluate or report, and write the result.

FOLDER/job.json is the order, FOLDER/result.json is the result. Each executor starts a job in its
own process.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from urd import method_version
from urd.config import FitConfig
from urd.detector import Detector
from urd.errors import NotWritten, UrdError, first_line
from urd.model.run_folder import RunFolder
from urd.suites.records import (
    JOB_NAME,
    MEASURED_IN,
    RESULT_NAME,
    RUN_NAME,
    JobOrder,
    read_order,
)
from urd.system.files import write_json, writing
from urd.system.machine import machine, precision_on

_OF_THE_RUN = ("data", "weights_sha256")  # not in a result: it has other keys for them, or none
# A job of a suite that was killed ends soon after it. A file server frees the lock of a dead node
# after a lease, which is 90 seconds in NFS 4.
_WAIT_SECONDS = 120.0


def run_job(folder: Path, wait: float = _WAIT_SECONDS) -> None:
    """Train, or continue a training, and write the result. Do nothing if there is a result.

    Args:
        wait: seconds to wait for another process that does the same job.

    Raises:
        UrdError: the order is damaged, or the work failed.
        NotWritten: another process does the same job.
    """
    order = _order(folder / JOB_NAME)
    with writing(folder, wait=wait):
        if (folder / RESULT_NAME).exists():  # of the process that did the same job
            return
        run = folder / RUN_NAME
        detector, seconds = _fitted(order, run)
        if order.purpose == "model":
            content = {**_model(order, run, detector), "seconds": seconds}
        else:
            content = {**_figures(order, detector), "fit_seconds": seconds}
        write_json(folder / RESULT_NAME, {**order.identity.model_dump(), **content})


def _order(path: Path) -> JobOrder:
    order = read_order(path)
    try:
        config = FitConfig.from_mapping(order.options, source="the order")
    except ValueError as error:
        raise UrdError(f"{path} is not an order of a suite: {first_line(error)}") from error
    if order.identity.method_version != method_version.version_of(config.variant):
        raise UrdError("the job was ordered by another version of urd: install the same one here")
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


def _figures(order: JobOrder, detector: Detector) -> dict[str, Any]:
    """The figures of the labelled test set, and the conditions."""
    began = time.monotonic()
    detector = detector.in_precision(MEASURED_IN)
    measured = _measured(detector, order)
    return {
        **{key: value for key, value in measured.items() if key not in _OF_THE_RUN},
        "evaluate_seconds": round(time.monotonic() - began, 1),
        "training": detector.header.data.to_dict(),
        **_conditions(detector),
    }


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


def _model(order: JobOrder, run: Path, detector: Detector) -> dict[str, Any]:
    """What the list of all models says of this one. The report is written into the run."""
    from urd.results.report import write_report

    # One region for all images is in the model; regions of single images are not.
    of_images = order.options if detector.roi_per_image else {}
    roi, ignore = (str(of_images.get(key, "")) for key in ("roi", "ignore"))
    write_report(run, device=detector.device, roi=roi, ignore=ignore)
    data = detector.header.data
    return {
        "train_images": data.train_images,
        "holdout_images": data.holdout_images,
        "skipped_images": data.skipped,
        "held_out": _held_out(detector),
        **_conditions(detector),
    }


def _held_out(detector: Detector) -> dict[str, Any] | None:
    calibration, thresholds = detector.header.calibration, detector.thresholds()
    if calibration is None or thresholds is None:
        return None
    verdicts = Counter(map(thresholds.verdict, calibration.scores))
    return {
        "ok": verdicts["OK"],
        "to_review": verdicts["REVIEW"],
        "rejected": verdicts["NG"],
        "review": thresholds.review.threshold,
        "reject": thresholds.reject.threshold,
        "bound": thresholds.reject.bound,
        "warning": thresholds.shortfall() or "",
    }


def _conditions(detector: Detector) -> dict[str, Any]:
    return {
        "encoder": detector.header.encoder.to_dict(),
        "precision": precision_on(detector.device, detector.config.precision),
        "machine": machine(detector.device),
    }
