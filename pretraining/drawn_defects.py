"""Draw defects on good images. They serve to choose encoders without looking at test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import fromarray

from urd.data import DEFAULT_READING, DataSet, decode_or_refuse
from urd.errors import UsageError
from urd.synthesis.foreground import otsu

Random = np.random.Generator
Image = NDArray[np.uint8]
DRAWN = (100, 60, 100)  # good images to remember, to judge unchanged, and to draw defects on
_ATTEMPTS = 100
_ON_PART = 0.6  # at least this share of a defect's pixels must be on the part
_LEAST_CHANGE = 6.0  # mean difference in grey levels that a defect must make, so that it is visible


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
        images, _, _ = decode_or_refuse(
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


def draw_defect(
    image: Image, other: Image, random: Random, part: NDArray[np.bool_] | None = None
) -> tuple[Image, NDArray[np.bool_]]:
    """The image (H, W, 3) with one small defect, and the mask of the defect (H, W).

    The five kinds are a texture from `other`, a stain, a dent, a scratch and a misplaced piece. A
    defect that is hardly visible, for example on a blank background, or that is mostly beside the
    `part` (H, W), is drawn again elsewhere; after 100 attempts the last one stays.
    """
    for _ in range(_ATTEMPTS):
        mask, changed = _KINDS[random.integers(len(_KINDS))](
            image.astype(np.float32), other, random
        )
        marked = mask > 0.5
        result = np.clip(changed, 0, 255).round().astype(np.uint8)
        difference = np.abs(result.astype(np.float32) - image)[marked]
        on_part = part is None or (part & marked).sum() >= _ON_PART * marked.sum()
        if difference.size and difference.mean() >= _LEAST_CHANGE and on_part:
            break
    return result, marked


def _blot(shape: tuple[int, ...], random: Random) -> NDArray[np.float32]:
    """A small ellipse with a ragged outline; 1 inside, 0 outside."""
    height, width = shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - random.uniform(0, width), y - random.uniform(0, height)
    angle, radius = random.uniform(0, np.pi), random.uniform(4, 14)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = (y * np.cos(angle) - x * np.sin(angle)) / random.uniform(0.4, 1)
    noise = cv2.GaussianBlur(random.standard_normal((height, width)).astype(np.float32), (0, 0), 3)
    frayed = (along / radius) ** 2 + (across / radius) ** 2 + 0.25 * noise / noise.std()
    return (frayed < 1).astype(np.float32)


Drawn = tuple[NDArray[np.float32], NDArray[np.float32]]


def _texture(image: NDArray[np.float32], other: Image, random: Random) -> Drawn:
    mask = _blot(image.shape, random)
    soft = random.uniform(0.2, 0.8) * cv2.GaussianBlur(mask, (0, 0), 0.7)[..., None]
    return mask, image + soft * (np.rot90(other, 2).astype(np.float32) - image)


def _stain(image: NDArray[np.float32], other: Image, random: Random) -> Drawn:
    mask = _blot(image.shape, random)
    change = random.choice([-1, 1]) * random.uniform(25, 80)
    return mask, image + change * cv2.GaussianBlur(mask, (0, 0), 1.2)[..., None]


def _dent(image: NDArray[np.float32], other: Image, random: Random) -> Drawn:
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centre = random.uniform(0, width), random.uniform(0, height)
    radius, strength = random.uniform(6, 22), random.uniform(0.4, 0.8)
    distance = np.hypot(x - centre[0], y - centre[1])
    # Pixels come from nearer to the centre, which magnifies the surface there like a dent.
    pull = 1 - strength * np.clip(1 - distance / radius, 0, None)
    from_x, from_y = centre[0] + (x - centre[0]) * pull, centre[1] + (y - centre[1]) * pull
    moved = cv2.remap(
        image,
        from_x.astype(np.float32),
        from_y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return (distance < 0.9 * radius).astype(np.float32), moved.astype(np.float32)


def _scratch(image: NDArray[np.float32], other: Image, random: Random) -> Drawn:
    start = random.uniform(0, 1, 2) * image.shape[1::-1]
    angle = random.uniform(0, 2 * np.pi) + np.cumsum(random.normal(0, 0.12, 12))
    steps = np.stack([np.cos(angle), np.sin(angle)], 1) * random.uniform(1, 3.5)
    line = np.zeros(image.shape[:2], np.float32)
    points = np.round((start + np.cumsum(steps, 0)) * 16).astype(np.int32)
    cv2.polylines(line, [points], False, 1.0, int(random.integers(1, 3)), cv2.LINE_AA, shift=4)
    change = random.choice([-1, 1]) * random.uniform(30, 90)
    wide = (cv2.dilate(line, np.ones((3, 3), np.uint8)) > 0.2).astype(np.float32)
    return wide, image + change * line[..., None]


def _misplaced(image: NDArray[np.float32], other: Image, random: Random) -> Drawn:
    mask = _blot(image.shape, random)
    shift = random.integers(-60, 61, 2)
    piece = np.roll(image, (int(shift[0]), int(shift[1])), (0, 1))[::-1, ::-1]
    return mask, image + mask[..., None] * (piece - image)


_KINDS = (_texture, _stain, _dent, _scratch, _misplaced)
