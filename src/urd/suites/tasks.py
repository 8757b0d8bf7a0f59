"""What an executor is given, and what it says when a job has ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from urd.suites.records import JobOrder


@dataclass(frozen=True)
class Task:
    """A job to run.

    Attributes:
        name: of the job, for messages.
        folder: takes the order (`job.json`), the run and the log; the job leaves `result.json`.
        order: its options hold no device: that is for the executor to choose.
    """

    name: str
    folder: Path
    order: JobOrder


@dataclass(frozen=True)
class Ended:
    """A job that has ended. `error` says why it left no result; `None` if it did."""

    task: Task
    error: str | None = None
