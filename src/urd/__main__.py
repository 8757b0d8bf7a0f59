"""The program `urd`: sets up the standard streams and the stop signals, then runs the command."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn

_INTERRUPTED = 130
_stopped = threading.Event()


def main() -> NoReturn:
    """Run the command; see `urd.cli.main` for the exit codes."""
    _open_standard_streams()
    _heed_stop_signals()
    try:
        _refuse_a_deleted_folder()
        from urd.cli import main as command

        command()
    except KeyboardInterrupt:
        _end("interrupted", _INTERRUPTED)
    except SystemExit as error:
        # The exit code is 130 for every interrupted command, not the code of the error it caused.
        if _stopped.is_set() and error.code:
            sys.exit(_INTERRUPTED)
        raise
    except Exception as error:
        if _stopped.is_set():  # an interrupted import can raise an error of any type
            _end("interrupted", _INTERRUPTED)
        _end(_unexpected(error), 1)


def _open_standard_streams() -> None:
    """Open the standard streams that are closed when the process starts.

    Otherwise the next opened file could get number 2, and libraries would write errors into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))


def _heed_stop_signals() -> None:
    """Ctrl-C or SIGTERM raises `KeyboardInterrupt`; a second one ends the process at once.

    Python runs signal handlers only in the main thread, and not while it waits inside a library.
    So a second thread counts the signals: the wake-up socket gets one byte per signal at once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    threading.Thread(target=_end_at_the_second, args=(reader,), daemon=True).start()
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # background jobs of a shell ignore Ctrl-C
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    if _stopped.is_set():
        time.sleep(60)  # the other thread ends the process
    _stopped.set()
    raise KeyboardInterrupt


def _end_at_the_second(reader: socket.socket) -> None:
    count = 0
    while count < 2:
        count += reader.recv(1)[0] in (signal.SIGINT, signal.SIGTERM)
    with suppress(OSError):
        show_cursor = b"\x1b[?25h\n" if os.isatty(2) else b""  # a progress bar hides the cursor
        os.write(2, show_cursor + b"urd: stopped at once\n")
    os._exit(_INTERRUPTED)


def _refuse_a_deleted_folder() -> None:
    try:
        os.getcwd()  # noqa: PTH109 - called only to see if it fails
    except OSError as error:
        _end(f"the working folder cannot be used ({error.strerror}): change to another folder", 1)


def _unexpected(error: Exception) -> str:
    """One line for an error that is ours; its traceback goes to a file, with `urd -v` also here."""
    import tempfile
    import traceback

    from urd.errors import first_line
    from urd.system.progress import Talk, talk

    lines = "".join(traceback.format_exception(error))
    if talk() is Talk.VERBOSE:
        with suppress(OSError, ValueError):
            print(lines, file=sys.stderr, end="")
    kept = "urd -v shows where it comes from"
    with (
        suppress(OSError),
        tempfile.NamedTemporaryFile(
            "w",
            prefix="urd-error-",
            suffix=".txt",
            encoding="utf-8",
            errors="backslashreplace",
            delete=False,
        ) as file,
    ):
        file.write(lines)
        kept = f"please report it with the file {file.name}"
    return f"unexpected {type(error).__name__} ({first_line(error)}): {kept}"


def _end(message: str, code: int) -> NoReturn:
    with suppress(OSError, ValueError):
        print(f"urd: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
