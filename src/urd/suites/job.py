"""One job in a process of its own: `python -m urd.suites FOLDER`.

FOLDER/job.json says what to do, FOLDER/result.json holds what came out. The process ends when its
standard input does: with whoever started it, however that one ended.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import urd.system.progress
from urd.config import FitConfig
from urd.detector import Detector
from urd.errors import NotWritten, UrdError, first_line
from urd.suites.schema import JobOrder
from urd.system.documents import MIB, read_json
from urd.system.files import write_json
from urd.system.machine import machine, precision_on
from urd.system.schema import check

JOB_NAME, RESULT_NAME, RUN_NAME = "job.json", "result.json", "run"
_OF_THE_RUN = ("data", "weights_sha256")  # what a result says otherwise, or not


def run_job(folder: Path) -> dict[str, Any]:
    """Train, or go on training, evaluate, and write the result.

    Raises:
        UrdError: the order is damaged, or the work failed.
    """
    order = _order(folder / JOB_NAME)
    run = folder / RUN_NAME
    resume = (run / "config.yaml").exists()
    began = time.monotonic()
    try:
        detector = Detector.fit(order["data_path"], run, resume=resume, **order["options"])
    except UrdError as error:
        if not resume or isinstance(error, NotWritten):  # a full disk, or another process at work
            raise
        # Whatever a killed job has left, the job itself can always be done from its beginning.
        resume, began = False, time.monotonic()
        shutil.rmtree(run)
        detector = Detector.fit(order["data_path"], run, **order["options"])
    fitted = time.monotonic()
    # In float32 on every machine: what is compared are trainings, not roundings.
    detector = detector.in_precision("float32")
    evaluation = detector.evaluation(order["data_path"], resamples=order["resamples"])
    measured = evaluation.metrics
    if measured["n_not_judged"]:
        first = evaluation.failures[0]
        raise UrdError(
            f"{measured['n_not_judged']} test images could not be judged, so the figures would be "
            f"of another test set; first {first.path}: {first.reason}"
        )
    result = {
        **order["identity"],
        **{key: value for key, value in measured.items() if key not in _OF_THE_RUN},
        # A run that was continued has no wall time that would mean something.
        "fit_seconds": None if resume else round(fitted - began, 1),
        "evaluate_seconds": round(time.monotonic() - fitted, 1),
        "training": detector.header.data.to_dict(),
        "encoder": detector.header.encoder.to_dict(),
        "precision": precision_on(detector.device, detector.config.precision),
        "machine": machine(detector.device),
    }
    write_json(folder / RESULT_NAME, result)
    return result


def _order(path: Path) -> dict[str, Any]:
    try:
        order = read_json(path, MIB)
        check(JobOrder, order)
        FitConfig.from_mapping(order["options"], source="the order")
    except ValueError as error:
        raise UrdError(f"{path} is not an order of a suite: {first_line(error)}") from error
    return dict(order)


def _end_with_the_parent() -> None:
    while os.read(0, 1):  # not by sys.stdin, whose lock would be held when the process ends
        pass
    os._exit(1)


def main() -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    urd.system.progress.show()
    try:
        run_job(Path(sys.argv[1]))
    except UrdError as error:
        print(f"urd: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
