"""Executors run the jobs of a suite; each has a name.

To add one (for example for the queue of a cluster), write a module with a class like
`LocalExecutor` and add a line to `EXECUTORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from urd.errors import UsageError, quoted
from urd.suites.local_executor import LocalExecutor
from urd.suites.tasks import Ended, Task


class Executor(Protocol):
    """Runs each job in its own process, by `python -m urd.suites FOLDER`."""

    def run(self, tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        """Run the tasks and yield each when it ends, with success or not.

        When the generator is closed or Ctrl-C arrives, running jobs write a checkpoint and stop.
        """
        ...


EXECUTORS: dict[str, Callable[[str, int], Executor]] = {"local": LocalExecutor}


def make_executor(name: str, device: str, parallel: int) -> Executor:
    """The executor with this name.

    Args:
        device: as the option of `urd fit`; `auto` uses every GPU.
        parallel: jobs at once; 0: the executor chooses.

    Raises:
        UsageError: there is no such executor, or more jobs at once than GPUs.
    """
    if name not in EXECUTORS:
        raise UsageError(f"unknown executor {quoted(name)}; choose from {', '.join(EXECUTORS)}")
    return EXECUTORS[name](device, parallel)
