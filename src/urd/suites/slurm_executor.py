"""Hands the jobs of a suite to SLURM, as one array of tasks. A later call takes their results."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from urd.errors import NotWritten, UrdError, UsageError, one_line, some
from urd.suites.job_process import MODULE, last_line
from urd.suites.records import JOB_NAME, LOG_NAME
from urd.suites.tasks import Ended, Task
from urd.system.files import absolute, write_text, writing
from urd.system.progress import note, warn

SCRIPT_NAME = "array.sbatch"
_MOST = 1000  # tasks of an array: SLURM's default limit
_SECONDS_TO_STOP = 120  # from the signal to the end of the time limit: an iteration, a checkpoint
_SCRIPT = """\
#!/bin/bash
# Written by urd: one task for each job without a result. A stopped job continues from its
# checkpoint. To take the results, run the same urd command again; it also writes this file again,
# for what is then missing.
{options}
folders=(
{folders}
)
folder=${{folders[$SLURM_ARRAY_TASK_ID]}}
if [ ! -e "$folder/{order}" ]; then
  echo "$folder: nothing to do, its result was taken"
  exit 0
fi
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}"
exec {command} "$folder" >>"$folder/{log}" 2>&1
"""


class SlurmExecutor:
    """Writes OUT/array.sbatch, and gives it to sbatch if that is wanted. It yields no ended job.

    All nodes must see OUT, the data and this Python under the same paths.

    Args:
        out: the folder of the suite.
        device: as the option of `urd fit`.
        parallel: jobs at once; 0: as many as the queue allows.
        options: more options for sbatch, as on its command line.

    Raises:
        UsageError: `options` cannot be used.
    """

    def __init__(
        self, out: Path, device: str, parallel: int, *, options: str = "", submit: bool = False
    ) -> None:
        self.out, self.device, self.parallel, self.submit = absolute(out), device, parallel, submit
        self.options = _checked(options)
        self.script = self.out / SCRIPT_NAME
        self.name = (
            f"urd-{hashlib.sha256(str(self.out).encode(errors='surrogateescape')).hexdigest()[:12]}"
        )

    def run(self, tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        """As `Executor.run`.

        Raises:
            UrdError: SLURM does not take the jobs.
        """
        if self.submit and tasks and (queued := self._queued()):
            note(f"Still in the queue: {some(queued)}. urd submits nothing before these end.")
            return
        self.script.unlink(missing_ok=True)
        ready: list[Task] = []
        for task in tasks[:_MOST]:
            try:
                if _is_free(task):
                    _tell_about(task)
                    task.write_order(self.device)
                    ready.append(task)
            except (UrdError, OSError) as error:
                yield Ended(task, str(error))
        if len(tasks) > _MOST:
            note(f"These are the first {_MOST} of {len(tasks)} jobs: the next call takes others.")
        if ready:
            write_text(self.script, self._text(ready))
            if self.submit:
                note(_called(["sbatch", str(self.script)]).strip())

    def _queued(self) -> list[str]:
        """The tasks of this suite that wait or run in SLURM."""
        lines = _called(["squeue", "--noheader", "--me", f"--name={self.name}", "--format=%i %T"])
        return [line.strip() for line in lines.splitlines() if line.strip()]

    def _text(self, tasks: Sequence[Task]) -> str:
        folders = (shlex.quote(str(absolute(task.folder))) for task in tasks)
        return _SCRIPT.format(
            options="\n".join(f"#SBATCH {option}" for option in self._all_options(len(tasks))),
            folders="\n".join(f"  {folder}" for folder in folders),
            order=JOB_NAME,
            log=LOG_NAME,
            command=shlex.join([sys.executable, *MODULE]),
        )

    def _all_options(self, count: int) -> Iterator[str]:
        at_once = f"%{self.parallel}" if self.parallel else ""
        log = str(self.out / "array.log").replace("%", "%%")
        yield f"--job-name={self.name}"
        yield f"--array=0-{count - 1}{at_once}"
        yield f"--chdir={shlex.quote(str(Path.cwd()))}"
        yield f"--output={shlex.quote(log)}"
        yield "--open-mode=append"
        yield "--requeue"
        yield f"--signal=B:TERM@{_SECONDS_TO_STOP}"
        yield from self.options


def _checked(options: str) -> list[str]:
    """Options for `#SBATCH` lines: each with its value.

    Raises:
        UsageError: a word belongs to no option, a quote is not closed, or urd sets the option.
    """
    if not options.isprintable():
        raise UsageError("--sbatch must be one line of printable characters")
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise UsageError(f"--sbatch {options}: {error}") from error
    found: list[str] = []
    for word in words:
        if word.startswith("-"):
            found.append(shlex.quote(word))
        elif found:
            found[-1] += f" {shlex.quote(word)}"
        else:
            raise UsageError(
                f"--sbatch takes options of sbatch, such as --time=2:00:00, not {word}"
            )
    for option in found:
        if option.startswith(("--array", "-a")):
            raise UsageError("--sbatch cannot set the array: urd does it, and --jobs limits it")
    return found


def _is_free(task: Task) -> bool:
    """Whether no process does the job now."""
    if not task.folder.exists():
        return True
    try:
        with writing(task.folder):
            return True
    except NotWritten:
        note(f"{task.name} is running.")
        return False


def _tell_about(task: Task) -> None:
    """Say how a job ended that was begun and has no result."""
    said = last_line(task.folder / LOG_NAME)
    if said:
        warn(f"{task.name} ended without a result; the last line of its log: {one_line(said)}")


def _called(command: Sequence[str]) -> str:
    """The output of a command of SLURM.

    Raises:
        UrdError: it is not installed, or refuses.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UrdError(
            f"{command[0]} is not installed here: --submit needs a machine with SLURM's commands. "
            f"Without it, urd only writes {SCRIPT_NAME}"
        ) from error
    if done.returncode:
        raise UrdError(
            f"{command[0]} failed: {one_line(done.stderr or done.stdout) or 'no reason'}"
        )
    return done.stdout
