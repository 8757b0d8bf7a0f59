"""Train with fewer threads where other programs use the same cores.

The threads of an operation wait for the slowest one. Beside one busy program on two cores, two
threads are three times slower than alone, but one thread is less than two times slower.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from urd.system.progress import note

_FIRST, _LAST = 1, 4  # iterations between which the processor time is measured
_LEAST_SECONDS = 1.0  # a shorter time shows nothing
_ALONE = 0.8  # of the threads' time; alone, a training gets more than this share of it


class SharedCores:
    """Measures the first iterations, and sets the number of threads once.

    Another number of threads rounds otherwise, so a training keeps the number, also when it is
    resumed. A user's OMP_NUM_THREADS is never changed.

    Args:
        threads: the number with which the training began; `None`: it begins now.
    """

    def __init__(self, threads: int | None) -> None:
        self.threads = self._first_threads = threads or torch.get_num_threads()
        self._measures = threads is None and self.threads > 1
        self._began = (0.0, 0.0)

    @property
    def in_words(self) -> str:
        """The threads of the training, for its header: another number rounds otherwise."""
        if self.threads == self._first_threads:
            return str(self.threads)
        return f"{self.threads} ({self._first_threads} for {_LAST} iterations)"

    def done(self, iterations: int) -> None:
        """To be called after each iteration, with how many are done."""
        if not self._measures or iterations > _LAST:
            return
        now = time.perf_counter(), time.process_time()
        if iterations == _FIRST:
            self._began = now
        if iterations == _LAST:
            self._decide(now[0] - self._began[0], now[1] - self._began[1])

    def _decide(self, wall: float, processor: float) -> None:
        share = processor / wall
        if wall < _LEAST_SECONDS or share >= _ALONE * self.threads:
            return
        fewer = max(1, int(share))
        note(
            f"Other programs use the processor: training with {fewer} of {self.threads} threads. "
            "To choose yourself, set OMP_NUM_THREADS."
        )
        self.threads = fewer
        torch.set_num_threads(fewer)


@contextmanager
def shared_cores(device: torch.device, threads: int | None) -> Iterator[SharedCores]:
    """The number of threads for a training; afterwards it is as before."""
    before = torch.get_num_threads()
    fixed = before if device.type != "cpu" or "OMP_NUM_THREADS" in os.environ else threads
    torch.set_num_threads(fixed or before)
    try:
        yield SharedCores(fixed)
    finally:
        torch.set_num_threads(before)
