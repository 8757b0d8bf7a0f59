"""Draw defects on good images. They serve to choose encoders without looking at test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import fromarray

from urd.data import DEFAULT_READING, DataSet, decode_or_refuse
from urd.errors import UsageError
from urd.synthesis.drawn_defects import Image, draw_defect
from urd.synthesis.foreground import otsu

DRAWN = (100, 60, 100)  # good images to remember, to judge unchanged, and to draw defects on


@dataclass(frozen=True)
class DrawnSet:
    """Good training images of a data set; some held-out ones have a drawn defect.

    Attributes:
        memory, good: images to remember and images to judge, (N, H, W, 3).
        drawn: images (H, W, 3) with a defect, and their masks (H, W).
    """

    memory: Image
    good: Image
    drawn: list[tuple[Image, NDArray[np.bool_]]]

    @classmethod
    def on(cls, data: DataSet, size: tuple[int, int], seed: int, on_part: bool = False) -> DrawnSet:
        """Draw on images of `data`; the seed decides their order.

        Args:
            on_part: draw defects on the object that Otsu's method finds.

        Raises:
            UsageError: there are too few good images, or one cannot be read.
        """
        judged = sum(DRAWN[:2])
        if len(data.train) <= judged:
            raise UsageError(
                f"{len(data.train)} good images are too few: drawing defects needs more than "
                f"{judged}"
            )
        random = np.random.default_rng(seed)
        order = random.permutation(len(data.train))[: sum(DRAWN)]
        images, *_ = decode_or_refuse(
            [data.train[index].path for index in order],
            size,
            DEFAULT_READING,
            at_least=len(order),
            what="good images",
            label="Reading",
        )
        memory, good, rest = np.split(images, np.cumsum(DRAWN)[:2])
        drawn = [
            draw_defect(image, rest[n - 1], random, otsu(image) if on_part else None)
            for n, image in enumerate(rest)
        ]
        return cls(memory, good, drawn)

    def write(self, folder: Path) -> None:
        """Write a data set in MVTec's layout, so that detectors can be trained and evaluated."""
        parts = {
            "train/good/{}.png": list(self.memory),
            "test/good/{}.png": list(self.good),
            "test/drawn/{}.png": [image for image, _ in self.drawn],
            "ground_truth/drawn/{}_mask.png": [m.astype(np.uint8) * 255 for _, m in self.drawn],
        }
        for name, pictures in parts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            for index, picture in enumerate(pictures):
                fromarray(picture).save(folder / name.format(f"{index:03}"))
