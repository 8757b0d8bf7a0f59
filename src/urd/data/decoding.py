"""Decode image files to RGB and to masks, as a person would see them.

Images: EXIF orientation is applied, and transparency is laid over white. Grey becomes three equal
channels; palette, CMYK, LAB and similar modes are converted. 16-bit values are scaled by a fixed
white level (65535, another one that the user gives, or the one that the file states). The image's
own range is never used, so that the same brightness is the same in every image.

Masks: one rule holds for ground truth, regions of interest and foreground. If transparency differs
from pixel to pixel, it alone decides: strokes on a transparent layer mark in any colour. Otherwise
colours decide (of the palette if there is one), and every value above 0 marks: white, red, and the
class numbers 1, 2, 3. Two kinds of masks have small values that mean nothing: lossy ones (JPEG,
lossy WebP), and resized ones with a soft edge, where all grey is at most two pixels from white.
In these masks only values above one half mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from urd.data.image_files import DEFAULT_READING, Reading, open_picture, refuse_small
from urd.data.picture import Picture, UnreadableImage

Mask = NDArray[np.bool_]
_WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
_EDGE = 2


def read_rgb(
    path: Path,
    white_level: int | None = None,
    *,
    reading: Reading = DEFAULT_READING,
) -> Image.Image:
    """Read an 8-bit RGB image, in the orientation in which a viewer shows it.

    Args:
        white_level: overrides that of `reading`.

    Raises:
        UnreadableImage: the file is missing, not whole, of an unsupported format, too small or too
            large, or has several pages.
    """
    if white_level is not None:
        reading = replace(reading, white_level=white_level)
    picture = open_picture(path, reading)
    refuse_small(picture)
    return picture.rgb(reading.white_level)


def read_masks(paths: Sequence[Path], reading: Reading = DEFAULT_READING) -> Mask:
    """Join the masks of one image, (H, W) bool.

    Raises:
        UnreadableImage: as for images, or the masks differ in size.
    """
    marked = read_mask(paths[0], reading)
    for path in paths[1:]:
        other = read_mask(path, reading)
        if other.shape != marked.shape:
            raise UnreadableImage(path, f"of another size than {paths[0].name}")
        marked |= other
    return marked


def read_mask(path: Path, reading: Reading = DEFAULT_READING) -> Mask:
    """Read a mask, (H, W) bool: true where it marks.

    It ignores the page and the white level of `reading`; a mask must have one page.

    Raises:
        UnreadableImage: as for images.
    """
    return marked(open_mask(path, reading))


def open_mask(path: Path, reading: Reading = DEFAULT_READING) -> Picture:
    """Open a mask without deciding what it marks; `marked` does that."""
    return open_picture(path, Reading(max_megapixels=reading.max_megapixels))


def marked(picture: Picture) -> Mask:
    """Where a mask marks, (H, W) bool, upright.

    Raises:
        UnreadableImage: floating-point values that are NaN or Inf, or where 0 is white.
    """
    values = picture.mask_values()
    half = values > _WHITE.get(values.dtype.name, 0) / 2
    if picture.lossy:
        return picture.upright(half)
    return picture.upright(half if _edges_are_soft(values) else values > 0)


def _edges_are_soft(values: NDArray[Any]) -> bool:
    """Whether grey is only beside white, so it comes from resizing; class numbers are not."""
    white = values == _WHITE.get(values.dtype.name)
    grey = (values > 0) & ~white
    if not white.any() or not grey.any():
        return False
    near = cv2.dilate(white.astype(np.uint8), np.ones((2 * _EDGE + 1,) * 2, np.uint8))
    return bool(near[grey].all())
