"""Who runs the jobs of a suite: executors, by their names.

Another one (a cluster's queue, say) is a module with a class like `LocalExecutor`, and a line in
`EXECUTORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from urd.errors import UsageError, quoted
from urd.suites.local_executor import LocalExecutor
from urd.suites.tasks import Ended, Task


class Executor(Protocol):
    """Runs jobs, each by `urd.suites.job.run_job` in a process of its own."""

    def run(self, tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        """Do the tasks and yield each when it has ended, well or not.

        When the generator is closed, or Ctrl-C arrives, what still runs is stopped: it writes a
        checkpoint.
        """
        ...


EXECUTORS: dict[str, Callable[[str, int], Executor]] = {"local": LocalExecutor}


def make_executor(name: str, device: str, parallel: int) -> Executor:
    """The executor of a name.

    Args:
        device: as the option of `urd fit`; `auto` takes every GPU.
        parallel: jobs at once; 0: as many as the executor finds best.

    Raises:
        UsageError: there is no such executor, or it has no such device.
    """
    if name not in EXECUTORS:
        raise UsageError(f"unknown executor {quoted(name)}; known are {', '.join(EXECUTORS)}")
    return EXECUTORS[name](device, parallel)
