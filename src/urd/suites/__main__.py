"""`python -m urd.suites [--with-parent] FOLDER`: runs one job.

With --with-parent the process ends when its standard input closes. The system closes it when the
parent ends, even if the parent is killed. A job of a queue has no parent, and no such input.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from urd.errors import UrdError
from urd.suites.job import run_job
from urd.suites.tasks import WITH_PARENT
from urd.system import progress


def _end_with_the_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: this thread would hold its lock when the process ends
        pass
    os._exit(1)


def main() -> None:
    *flags, folder = sys.argv[1:]
    if WITH_PARENT in flags:
        threading.Thread(target=_end_with_the_parent, daemon=True).start()
    progress.show()
    try:
        run_job(Path(folder))
    except UrdError as error:
        print(f"urd: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as stopped:  # its training wrote a checkpoint
        print(f"urd: {stopped or 'interrupted'}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
