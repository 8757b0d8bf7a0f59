"""Threads: ordered work a few items ahead of its consumer, and warnings switched off safely."""

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


def asked_threads() -> int:
    """How many threads the user asks for by OMP_NUM_THREADS; 0: it is not set.

    PyTorch reads it by itself, other runtimes do not.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isascii() and asked.isdigit() else 0


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that ends with the body; jobs that have not begun are then cancelled.

    A plain pool reacts to Ctrl-C only after all submitted jobs are done.
    """
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        # After a normal end nothing is left to cancel; a consumer that stops early needs no more.
        pool.shutdown(cancel_futures=True)


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    depth: int,
    most_threads: int = 4,
) -> Generator[Result, None, None]:
    """`map` in threads, in order, with at most `depth` results in work or waiting."""
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
    """Switch warnings off in the body, for one thread at a time.

    The filters belong to the whole process: two threads that change and restore them at the same
    time could leave all warnings off.
    """
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
