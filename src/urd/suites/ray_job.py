"""The work of a Ray task on its node: it runs one job as a process and sends back what it left."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from urd.suites.job_process import COMMAND, start_job, why_it_failed
from urd.suites.records import JOB_NAME, LOG_NAME, RESULT_NAME, RUN_NAME
from urd.system.versions import VERSION

SEEN_NAME = "driver"  # a file of the driver in the folder of a job
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class RayOrder:
    """All that a node must know of a job.

    Attributes:
        folder: of the job, on the machine of the driver.
        token: the content of the file `SEEN_NAME` in that folder.
        order: the content of `job.json`, for nodes that do not see the folder.
        threads: of the job.
        working_folder: of the driver: paths in the order may be relative to it.
        keep_run: send the run, too, not only result and log.
        command: the program and its arguments; empty: `urd.suites` in the Python of the node.
    """

    folder: str
    token: str
    order: str
    threads: int
    working_folder: str
    keep_run: bool
    command: tuple[str, ...] = ()
    version: str = VERSION


@dataclass(frozen=True)
class Left:
    """What a job left.

    Attributes:
        error: why it failed; `None` if it did not.
        files: by path below the folder of the job; empty if the driver sees that folder itself.
    """

    error: str | None
    files: dict[str, bytes] = field(default_factory=dict)


def do_job(order: RayOrder) -> Iterator[str | Left]:
    """Yield the name of the node when the job begins, and what it left when it ended.

    Where storage is shared, the job works in the folder of the driver and continues from the
    checkpoint there. Else it works in a temporary folder of the node. A cancelled task stops its
    job, which writes a checkpoint.
    """
    yield socket.gethostname()
    if order.version != VERSION:
        yield Left(f"the node has urd {VERSION}, and the driver {order.version}")
    elif _is_seen(order):
        yield Left(_run(Path(order.folder), order))
    else:
        with tempfile.TemporaryDirectory(prefix="urd-job-") as name:
            (Path(name) / JOB_NAME).write_text(order.order, encoding="utf-8")
            error = _run(Path(name), order)
            yield Left(error, _files(Path(name), order.keep_run and error is None))


def _is_seen(order: RayOrder) -> bool:
    """Whether this node sees the folder of the driver, and not another one of the same path."""
    try:
        return (Path(order.folder) / SEEN_NAME).read_text(encoding="utf-8") == order.token
    except OSError:
        return False


def _run(folder: Path, order: RayOrder) -> str | None:
    """Run the job to its end; why it failed, or `None`."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(order.threads)}
    there = Path(order.working_folder)
    process = start_job(
        folder,
        environment,
        order.command or COMMAND,
        working_folder=there if there.is_dir() else None,
    )
    try:
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)  # not `wait`: a cancellation would not interrupt it
    finally:
        _stop(process)
    return why_it_failed(process, folder)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()


def _files(folder: Path, keep_run: bool) -> dict[str, bytes]:
    """Log, run and result: the result is the last one, so that it is written last."""
    run = sorted((folder / RUN_NAME).rglob("*")) if keep_run else []
    paths = [folder / LOG_NAME, *run, folder / RESULT_NAME]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()
    }
