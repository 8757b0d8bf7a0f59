"""Runs jobs as processes on this machine: one per GPU, or several on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from urd.errors import UrdError, UsageError
from urd.suites.records import JOB_NAME, LOG_NAME
from urd.suites.tasks import WITH_PARENT, Ended, Task
from urd.system.files import make_folder, write_json

_CORES_PER_JOB = 8  # with fewer, one job at a time uses all cores best
_POLL_SECONDS = 0.1
_COMMAND = (sys.executable, "-m", "urd.suites", WITH_PARENT)


class LocalExecutor:
    """Each job is a child `python -m urd.suites FOLDER`, which ends when this process ends.

    Args:
        device, parallel: as in `make_executor`.
        command: the program and its arguments; the folder of the job is added.

    Raises:
        UsageError: more jobs at once than GPUs.
    """

    def __init__(self, device: str, parallel: int, command: Sequence[str] = _COMMAND) -> None:
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
        make_folder(task.folder)
        write_json(task.folder / JOB_NAME, task.order.with_options(device=device).model_dump())
        threads = max(1, (os.cpu_count() or 1) // len(self.devices))
        with (task.folder / LOG_NAME).open("ab") as log:
            process = subprocess.Popen(
                [*self.command, str(task.folder)],
                stdin=subprocess.PIPE,  # nothing is written: the child ends when the pipe closes
                stdout=log,
                stderr=log,
                env={"OMP_NUM_THREADS": str(threads), **os.environ},
                start_new_session=True,  # only the suite gets Ctrl-C; it then stops each job once
            )
        return _Child(task, device, process)


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
    best = 1 if device.startswith("cuda") else max(1, cores // _CORES_PER_JOB)
    return [device] * (parallel or best)


@dataclass(frozen=True)
class _Child:
    task: Task
    device: str
    process: subprocess.Popen[bytes]

    def error(self) -> str | None:
        """Why the job failed (the last line of its log); `None` if it did not fail."""
        code, path = self.process.returncode, self.task.folder / LOG_NAME
        if self.process.stdin is not None:
            self.process.stdin.close()
        if code == 0:
            return None
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line for line in lines if line.strip()]
        reason = said[-1].removeprefix("urd: ") if said else "no output"
        return f"{reason} (exit code {code}; {path})"


def _stop(running: list[_Child]) -> None:
    """Stop the jobs; each writes a checkpoint first."""
    for child in running:
        child.process.terminate()
    for child in running:
        child.process.wait()
