"""The input of an executor (tasks) and its output (ended tasks)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from urd.suites.records import JobOrder

WITH_PARENT = "--with-parent"  # the flag of a job that must end with the process that started it


@dataclass(frozen=True)
class Task:
    """A job to run.

    Attributes:
        name: the name of the job, for messages.
        folder: for the order (`job.json`), the run, the log and the result (`result.json`).
        order: its options have no device, because the executor chooses it.
    """

    name: str
    folder: Path
    order: JobOrder


@dataclass(frozen=True)
class Ended:
    """A job that ended. `error` says why there is no result; `None`: there is one."""

    task: Task
    error: str | None = None
