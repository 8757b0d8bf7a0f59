"""What every engine is to a detector."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Maps = NDArray[np.float32]
PRECISIONS = ("float32", "float16", "int8")  # of exported files


class Engine(Protocol):
    """From uint8 RGB pixels (B, *input_size, 3) to maps (B, h, w) and scores (B,).

    Maps have the network's size. `rois` (B, h, w) bool is what is inspected, `None`: all of it;
    what lies outside is painted over. An exported file knows its region and takes no other.
    """

    @property
    def input_size(self) -> tuple[int, int]: ...

    @property
    def device(self) -> str:
        """Where it computes: cpu, cuda:0, ..."""

    @property
    def precision(self) -> str: ...

    def weights_sha256(self) -> str | None:
        """What tells its weights from others; `None` where they are not seen."""

    def __call__(
        self, pixels: NDArray[np.uint8], rois: NDArray[np.bool_] | None
    ) -> tuple[Maps, Maps]: ...
