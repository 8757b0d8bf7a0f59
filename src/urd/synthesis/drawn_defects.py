"""Draw small defects on good images: scratches, dents, stains, and pieces in the wrong place.

Training does not know them. They show, without a label, which of two detectors sees defects better.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Random = np.random.Generator
Image = NDArray[np.uint8]
_ATTEMPTS = 100
_ON_PART = 0.6  # at least this share of a defect's pixels must be on the part
_LEAST_CHANGE = 6.0  # mean difference in grey levels that a defect must make, so that it is visible


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
