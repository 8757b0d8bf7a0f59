"""Ctrl-C and SIGTERM as a request to stop, for as long as some code runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handler` at Ctrl-C and SIGTERM while the body runs; then what was before counts again.

    A signal that is ignored stays ignored: background jobs of a shell ignore Ctrl-C. In a thread
    that is not the main one nothing changes, because Python allows no handlers there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stops = (signal.SIGINT, signal.SIGTERM)
    heeded = [number for number in stops if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
