"""The interface of an engine."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Maps = NDArray[np.float32]
PRECISIONS = ("float32", "float16", "int8")  # of exported files


class Engine(Protocol):
    """From uint8 RGB pixels (B, *input_size, 3) to maps (B, h, w) and scores (B,).

    Maps have the network's size. `rois` (B, h, w) bool is the inspected part, `None`: all of it;
    the rest is painted over. An exported file uses its own region and ignores `rois`.
    """

    @property
    def input_size(self) -> tuple[int, int]: ...

    @property
    def device(self) -> str:
        """The device it computes on: cpu, cuda:0, ..."""

    @property
    def precision(self) -> str: ...

    def weights_sha256(self) -> str | None:
        """A digest that identifies the weights; `None` if the engine cannot read them."""

    def __call__(
        self, pixels: NDArray[np.uint8], rois: NDArray[np.bool_] | None
    ) -> tuple[Maps, Maps]: ...
