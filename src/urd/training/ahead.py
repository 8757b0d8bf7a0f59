"""Draw the batches of the next iterations while a GPU works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from urd.training.batches import Batch

_DEPTH = 3  # batches that are drawn before they are asked for


class Ahead:
    """A thread that draws batches, in order, on a stream of its own.

    To draw, the processor must wait for the GPU: an empty mask is drawn again. In this thread and
    on this stream, that wait does not stop the training. The batches are the same as without it,
    because a batch depends only on seed and iteration.

    Args:
        draw: gives the batch of an iteration.
        first: the first iteration that will be asked for.
    """

    def __init__(self, draw: Callable[[int], Batch], device: torch.device, first: int) -> None:
        self._draw = draw
        self._next = first
        self._waiting: deque[Future[tuple[Batch, torch.cuda.Event | None]]] = deque()
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device, priority=-1)  # its kernels are small: first
            self._stream.wait_stream(torch.cuda.current_stream(device))  # images are copied there
        self._pool = ThreadPoolExecutor(1, "draw")

    def take(self) -> Batch:
        """The next batch, for use on the current stream."""
        while len(self._waiting) < _DEPTH:
            self._waiting.append(self._pool.submit(self._drawn, self._next))
            self._next += 1
        batch, drawn = self._waiting.popleft().result()
        if self._stream is not None and drawn is not None:
            current = torch.cuda.current_stream(self._stream.device)
            current.wait_event(drawn)
            for tensor in batch.tensors():  # its memory is free only after the work queued here
                tensor.record_stream(current)
        return batch

    def close(self) -> None:
        """End the thread; batches that nobody took are dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _drawn(self, iteration: int) -> tuple[Batch, torch.cuda.Event | None]:
        if self._stream is None:
            return self._draw(iteration), None
        with torch.cuda.stream(self._stream):
            batch = self._draw(iteration)
            return batch, self._stream.record_event()
