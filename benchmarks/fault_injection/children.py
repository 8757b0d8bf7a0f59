"""Work in a forked child with limits: what it said, how it ended, what it took.

The parent has imported everything and computed nothing in threads, so that a child starts at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

SECONDS, RESIDENT = 20.0, 2 << 30
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        kind: `said`, `raw error`, `hang`, `memory`, `killed` (by us) or `crash`.
        text: what the work returned, or the error.
        seconds: from its start to its end.
    """

    kind: str
    text: str
    seconds: float
    resident: int = 0


def in_child(
    work: Callable[[], str],
    *,
    seconds: float = SECONDS,
    resident: int = RESIDENT,
    kill_after: float | None = None,
) -> Ended:
    """Fork, run `work`, and tell how it ended; `kill_after` seconds it is killed at any rate."""
    reader, writer = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run(work, writer)
    os.close(writer)
    os.set_blocking(reader, False)
    stopped, highest, said = "", 0, b""
    while True:
        said += _read(reader)
        done, status, usage = os.wait4(child, os.WNOHANG)
        spent = time.monotonic() - began
        if done:
            break
        highest = max(highest, _resident(child))
        if not stopped:
            if kill_after is not None and spent >= kill_after:
                stopped = "killed"
            elif highest > resident:
                stopped = "memory"
            elif spent > seconds:
                stopped = "hang"
            if stopped:
                with suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
        time.sleep(0.002)
    said += _read(reader)
    os.close(reader)
    with suppress(ProcessLookupError):  # processes that it has started
        os.killpg(child, signal.SIGKILL)
    highest = max(highest, usage.ru_maxrss * 1024)
    if not stopped and highest > resident:
        stopped = "memory"
    if stopped:
        return Ended(stopped, said.decode(errors="replace"), spent, highest)
    if os.WIFSIGNALED(status):
        return Ended("crash", f"signal {os.WTERMSIG(status)}", spent, highest)
    kind = "said" if os.WEXITSTATUS(status) == 0 else "raw error"
    return Ended(kind, said.decode(errors="replace"), spent, highest)


def _run(work: Callable[[], str], writer: int) -> None:
    """In the child; does not return."""
    code = 1
    try:
        os.setpgid(0, 0)
        os.write(writer, work().encode(errors="replace")[:60_000])
        code = 0
    except BaseException as error:
        os.write(writer, f"{type(error).__name__}: {error}".encode(errors="replace")[:60_000])
    finally:
        os._exit(code)


def _read(descriptor: int) -> bytes:
    with suppress(BlockingIOError):
        return os.read(descriptor, 65536)
    return b""


def _resident(process: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    return 0


def verb(*arguments: object) -> str:
    """`urd ARGUMENTS` in this process: its exit code and, from the second line, what it printed."""
    from urd import cli

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["urd", *map(str, arguments)]
    code: object = "none"
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
    return f"{code}\n{err.getvalue()}\n{out.getvalue()}"


def exit_code(ended: Ended) -> str:
    """Of a `verb` in a child; what happened instead where it did not end by itself."""
    return ended.text.partition("\n")[0] if ended.kind == "said" else ended.kind
