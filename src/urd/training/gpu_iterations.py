"""Training iterations on a GPU, which neither waits for the processor nor is waited for.

An iteration is about 3,000 short operations, and a processor needs longer to start them than a
large GPU to do them. So the whole step, optimisers included, is recorded once as a CUDA graph, and
then repeated with one call per iteration. What changes from one iteration to the next stands in
tensors that the recorded step reads: the drawn batch and the learning rates. Images, textures and
the expert's features of good images are on the GPU from the start.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from urd.errors import first_line
from urd.system.progress import note
from urd.training.ahead import Ahead
from urd.training.batches import Batch

_PLAIN_FIRST = 3  # iterations before the recording: libraries choose kernels and take memory
_failed: list[torch.cuda.CUDAGraph] = []  # PyTorch goes on to look at them

Losses = dict[str, Tensor]
Record = Callable[[Callable[[], Losses]], tuple[Callable[[], None], Losses]]


class GpuIterations:
    """Call it for one iteration after the other; `close` it at the end.

    If the step cannot be recorded, a note says so, and all iterations run without a recording. The
    weights are the same either way.

    Args:
        draw: gives the batch of an iteration.
        step: trains on a batch; it must not wait for the GPU.
        first: the first iteration.
        record: as `record_graph`; `None`: no recording.
    """

    def __init__(
        self,
        draw: Callable[[int], Batch],
        step: Callable[[Batch], Losses],
        device: torch.device,
        first: int,
        record: Record | None,
    ) -> None:
        self._draw = draw
        self._step = step
        self._device = device
        self._record_at = first + _PLAIN_FIRST
        self._record = record
        self._ahead: Ahead | None = None
        self._inputs: Batch | None = None
        self._repeat: Callable[[], None] | None = None
        self._losses: Losses = {}

    @property
    def recorded(self) -> bool:
        """Whether iterations repeat a recorded step."""
        return self._repeat is not None

    def __call__(self, iteration: int) -> Losses:
        """Train for one iteration; the losses stay on the GPU."""
        if iteration == self._record_at:
            self._try_to_record(iteration)
            if self.recorded or self._record is None:  # not before: it would disturb a recording
                self._ahead = Ahead(self._draw, self._device, iteration)
        batch = self._draw(iteration) if self._ahead is None else self._ahead.take()
        if self._repeat is None or self._inputs is None:
            return self._step(batch)
        for own, new in zip(self._inputs.tensors(), batch.tensors(), strict=True):
            own.copy_(new, non_blocking=True)
        self._repeat()
        return {name: loss.clone() for name, loss in self._losses.items()}  # it is overwritten

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()

    def _try_to_record(self, iteration: int) -> None:
        if self._record is None:
            return
        inputs = self._draw(iteration)
        try:
            self._repeat, self._losses = self._record(lambda: self._step(inputs))
            self._inputs = inputs
        except RuntimeError as error:  # also if there is too little memory
            note(
                "The training step cannot be recorded as a CUDA graph, so training is slower "
                f"({first_line(error)})."
            )


def record_graph(step: Callable[[], Losses]) -> tuple[Callable[[], None], Losses]:
    """Record a step on the current stream without running it.

    Returns:
        What repeats the step, and its losses, which each repetition overwrites.

    Raises:
        RuntimeError: an operation of the step cannot be recorded, or there is too little memory.
    """
    gc.collect()  # memory of the GPU must not be given back during a recording
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    try:
        # Other threads of this process may use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            losses = step()
    except BaseException:
        _failed.append(graph)
        raise
    return graph.replay, losses


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Work inside on a stream of its own, since the default stream cannot be recorded."""
    if device.type != "cuda":
        yield
        return
    before, own = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    own.wait_stream(before)
    try:
        with torch.cuda.stream(own):
            yield
    finally:
        before.wait_stream(own)
