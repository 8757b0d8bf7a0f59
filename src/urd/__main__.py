"""The program `urd`: its standard streams, the signals that end it, and then the command line."""

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
        if _stopped.is_set() and error.code:  # of whatever kind the interrupted work was
            sys.exit(_INTERRUPTED)
        raise
    except Exception:
        if _stopped.is_set():  # an interrupted import may end in an error of any type
            _end("interrupted", _INTERRUPTED)
        raise


def _open_standard_streams() -> None:
    """Give the process the streams that it was started without.

    A file that is opened where standard error was would take what libraries write there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))


def _heed_stop_signals() -> None:
    """Ctrl-C or SIGTERM raises `KeyboardInterrupt`; a second one ends the process at once.

    The second is seen by a thread of its own, since Python calls handlers in the main thread and
    between its instructions only: not while that one waits inside a library.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    threading.Thread(target=_end_at_the_second, args=(reader,), daemon=True).start()
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # a shell's background job ignores Ctrl-C
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
        show_cursor = b"\x1b[?25h\n" if os.isatty(2) else b""  # a progress bar hides it
        os.write(2, show_cursor + b"urd: stopped at once\n")
    os._exit(_INTERRUPTED)


def _refuse_a_deleted_folder() -> None:
    try:
        os.getcwd()  # noqa: PTH109 - the check is all that is wanted
    except OSError as error:
        _end(f"the working folder cannot be used ({error.strerror}): change to another one", 1)


def _end(message: str, code: int) -> NoReturn:
    with suppress(OSError, ValueError):
        print(f"urd: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
