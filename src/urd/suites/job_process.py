"""A job as a process of its own: its command, its start, and why it failed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from urd.suites.records import LOG_NAME
from urd.suites.tasks import WITH_PARENT

MODULE = ("-m", "urd.suites")
COMMAND = (sys.executable, *MODULE, WITH_PARENT)


def start_job(
    folder: Path,
    environment: Mapping[str, str],
    command: Sequence[str] = COMMAND,
    working_folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start the job that is ordered in `folder`. It ends when this process ends.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    with (folder / LOG_NAME).open("ab") as log:
        return subprocess.Popen(
            [*command, str(folder)],
            stdin=subprocess.PIPE,  # nothing is written: the child ends when the pipe closes
            stdout=log,
            stderr=log,
            env=environment,
            cwd=working_folder,
            start_new_session=True,  # only the suite gets Ctrl-C; it then stops each job once
        )


def why_it_failed(process: subprocess.Popen[bytes], folder: Path) -> str | None:
    """Why an ended job failed (the last line of its log); `None` if it did not fail."""
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode == 0:
        return None
    path = folder / LOG_NAME
    return f"{last_line(path) or 'no output'} (exit code {process.returncode}; {path})"


def last_line(log: Path) -> str:
    """The last line of a log that is not empty; an empty text if there is none."""
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line for line in lines if line.strip()]
    return said[-1].removeprefix("urd: ") if said else ""
