"""The input of an executor (tasks) and its output (ended tasks)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urd.suites.records import JOB_NAME, JobOrder
from urd.system.files import make_folder, write_json

WITH_PARENT = "--with-parent"  # the flag of a job that must end with the process that started it


@dataclass(frozen=True)
class Task:
    """A job to run.

    Attributes:
        name: the name of the job, for messages.
        folder: for the order (`job.json`), the run, the log and the result (`result.json`).
        order: its options have no device, because the executor chooses it.
        keep_run: the run is wanted, too, not only the result.
    """

    name: str
    folder: Path
    order: JobOrder
    keep_run: bool = False

    def write_order(self, device: str) -> None:
        """Make the folder and write the order, for this device.

        Raises:
            UsageError, NotWritten: the folder or the file cannot be made.
        """
        make_folder(self.folder)
        write_json(self.folder / JOB_NAME, self.ordered_for(device))

    def ordered_for(self, device: str) -> dict[str, Any]:
        """The content of the order, for this device."""
        return self.order.with_options(device=device).model_dump()


@dataclass(frozen=True)
class Ended:
    """A job that ended. `error` says why there is no result; `None`: there is one."""

    task: Task
    error: str | None = None
