"""Threads: work in order, a few items ahead of who takes the results, and no warnings from it."""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_SILENCE = threading.Lock()
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose work ends with the body; where that fails, what has not begun is left out.

    By default Ctrl-C would be answered when all that was handed in is done.
    """
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        # After a good end nothing is left to cancel, and who reads no further needs no more.
        pool.shutdown(cancel_futures=True)


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    depth: int,
    most_threads: int = 4,
) -> Generator[Result, None, None]:
    """`map` in threads, in order, that keeps at most `depth` results waiting to be taken."""
    with workers(min(most_threads, os.cpu_count() or 1)) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def without_warnings() -> Iterator[None]:
    """No warnings inside, from one thread at a time: the filters belong to the whole process.

    Two threads that set and restore them in turns would leave all warnings off.
    """
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
