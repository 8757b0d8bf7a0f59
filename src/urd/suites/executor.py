"""Executors run the jobs of a suite; each has a name.

To add one (for example for the queue of a cluster), write a module with a class like
`LocalExecutor` and add a line to `EXECUTORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from urd.errors import UsageError, quoted
from urd.suites.local_executor import LocalExecutor
from urd.suites.ray_executor import RayExecutor
from urd.suites.slurm_executor import SlurmExecutor
from urd.suites.tasks import Ended, Task


class Executor(Protocol):
    """Runs each job in its own process, by `python -m urd.suites FOLDER`."""

    def run(self, tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        """Run the tasks and yield each when it ends, with success or not.

        An executor that hands tasks to a queue yields nothing for them. When the generator is
        closed or Ctrl-C arrives, running jobs write a checkpoint and stop.
        """
        ...


@dataclass(frozen=True)
class Execution:
    """Where jobs run, and how many at once. It never changes a result.

    Attributes:
        on: a name in `EXECUTORS`; for Ray also `ray:ADDRESS`.
        parallel: jobs at once; 0: the executor chooses.
        sbatch: options for SLURM's sbatch, such as `--time=2:00:00 --gres=gpu:1`.
        submit: give the jobs to SLURM; otherwise only write the script.
    """

    on: str = "local"
    parallel: int = 0
    sbatch: str = ""
    submit: bool = False

    def executor(self, device: str, out: Path) -> Executor:
        """The executor.

        Args:
            device: as the option of `urd fit`; `auto` uses every GPU.
            out: the folder of the suite, for files of the executor.

        Raises:
            UsageError: there is no such executor, an option is of another one, or it cannot use
                the device.
        """
        name, colon, address = self.on.partition(":")
        if name not in EXECUTORS:
            raise UsageError(f"unknown executor {quoted(name)}; choose from {', '.join(EXECUTORS)}")
        if colon and (name != "ray" or not address):
            raise UsageError(f"--on {self.on}: only ray takes an address, as ray:ADDRESS")
        if name != "slurm" and (self.sbatch or self.submit):
            raise UsageError("--sbatch and --submit belong to --on slurm")
        return EXECUTORS[name](self, device, out)


EXECUTORS: dict[str, Callable[[Execution, str, Path], Executor]] = {
    "local": lambda how, device, out: LocalExecutor(device, how.parallel),
    "ray": lambda how, device, out: RayExecutor(how.on, device, how.parallel),
    "slurm": lambda how, device, out: SlurmExecutor(
        out, device, how.parallel, options=how.sbatch, submit=how.submit
    ),
}
