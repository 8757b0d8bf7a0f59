"""Runs jobs as processes on this machine: one per GPU, or several on the CPU."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from urd.errors import UrdError, UsageError
from urd.suites.job_process import COMMAND, start_job, why_it_failed
from urd.suites.tasks import Ended, Task

CORES_PER_JOB = 8  # with fewer, one job at a time uses all cores best
_POLL_SECONDS = 0.1


class LocalExecutor:
    """Each job is a child `python -m urd.suites FOLDER`, which ends when this process ends.

    Args:
        device: as the option of `urd fit`; `auto` uses every GPU.
        parallel: jobs at once; 0: one per GPU, or one per eight cores.
        command: the program and its arguments; the folder of the job is added.

    Raises:
        UsageError: more jobs at once than GPUs.
    """

    def __init__(self, device: str, parallel: int, command: Sequence[str] = COMMAND) -> None:
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        self.command = command
        self.devices = devices_at_once(device, parallel, gpus=gpus, cores=os.cpu_count() or 1)

    def run(self, tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        """As `Executor.run`."""
        waiting, free = deque(tasks), deque(self.devices)
        running: list[_Child] = []
        try:
            while waiting or running:
                while waiting and free:
                    task = waiting.popleft()
                    try:
                        running.append(self._start(task, free[0]))
                        free.popleft()
                    except (UrdError, OSError) as error:
                        yield Ended(task, str(error))
                for child in [child for child in running if child.process.poll() is not None]:
                    running.remove(child)
                    free.append(child.device)
                    yield Ended(child.task, child.error())
                time.sleep(_POLL_SECONDS if running else 0)
        finally:
            _stop(running)

    def _start(self, task: Task, device: str) -> _Child:
        task.write_order(device)
        threads = max(1, (os.cpu_count() or 1) // len(self.devices))
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        return _Child(task, device, start_job(task.folder, environment, self.command))


def devices_at_once(device: str, parallel: int, *, gpus: int, cores: int) -> list[str]:
    """The devices of the jobs that run at once, for a number of GPUs and processor cores.

    Raises:
        UsageError: more jobs at once than GPUs.
    """
    if device == "auto" and gpus:
        if parallel > gpus:
            raise UsageError(
                f"--jobs {parallel}: this machine has {gpus} GPUs, and each runs one job"
            )
        return [f"cuda:{index}" for index in range(parallel or gpus)]
    best = 1 if device.startswith("cuda") else max(1, cores // CORES_PER_JOB)
    return [device] * (parallel or best)


@dataclass(frozen=True)
class _Child:
    task: Task
    device: str
    process: subprocess.Popen[bytes]

    def error(self) -> str | None:
        return why_it_failed(self.process, self.task.folder)


def _stop(running: list[_Child]) -> None:
    """Stop the jobs; each writes a checkpoint first."""
    for child in running:
        child.process.terminate()
    for child in running:
        child.process.wait()
