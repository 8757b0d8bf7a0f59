"""The training curve: JSON lines of losses, speed and validation scores in metrics.jsonl."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from urd.system.documents import parse_json
from urd.system.files import growing, refuse_special, write_text
from urd.system.schema import check
from urd.training.checkpoint import NotFinite
from urd.training.schema import CurveLine


class Curve:
    """Sum up losses and append their means; without a path, only check for NaN and Inf.

    A resumed run continues after the line of iteration `first`; later lines are removed.
    """

    def __init__(self, path: Path | None, first: int) -> None:
        self.path = path
        if path is not None:
            refuse_special(path)
            lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
            kept = [line for line in lines if _iteration_of(line) <= first]
            write_text(path, "".join(f"{line}\n" for line in kept))
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count, self.images, self.began = 0, 0, time.monotonic()

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        """Add one iteration's losses; they stay on their device until a line is written."""
        for name, loss in losses.items():
            self.sums[name] = self.sums[name] + loss if name in self.sums else loss
        self.count += 1
        self.images += images

    def write(self, iteration: int) -> str:
        """Append the means since the last line; return them as text for the progress line.

        Raises:
            NotFinite: a mean is NaN or Inf.
        """
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        broken = [name for name, mean in means.items() if not math.isfinite(mean)]
        if broken:
            raise NotFinite(
                f"the {broken[0]} loss became NaN or Inf by iteration {iteration}; the last good "
                "checkpoint is kept. A smaller learning rate or --precision float32 may help."
            )
        rate = self.images / (time.monotonic() - self.began)
        self._append({"iteration": iteration, "loss": means, "images_per_second": round(rate, 2)})
        self._reset()
        text = " ".join(f"{name} {mean:.3f}" for name, mean in means.items())
        return f"{text} {rate:.1f} img/s"

    def write_validation(self, iteration: int, scores: dict[str, float]) -> None:
        defined = {name: s if math.isfinite(s) else None for name, s in scores.items()}
        self._append({"iteration": iteration, "validation": defined})
        self.began = time.monotonic()

    def _append(self, line: dict[str, Any]) -> None:
        if self.path is not None:
            with growing(self.path, mode="a") as add_line:
                add_line(json.dumps(line, allow_nan=False))


def _iteration_of(line: str) -> float:
    """The iteration of a line of the curve; infinity for a damaged line, so that it is removed."""
    try:
        content = parse_json(line)
        check(CurveLine, content)
    except ValueError:
        return math.inf
    return int(content["iteration"])
