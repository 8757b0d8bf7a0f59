"""Image files to RGB and to masks, the way a person would see them.

Images: EXIF orientation is applied; transparency is laid over white; grey becomes three equal
channels; palette, CMYK, LAB and the like are converted; 16-bit values are scaled by a fixed white
level (65535 unless told otherwise, or what the file itself states), never by the image's own range,
so that the same brightness stays the same in every image.

Masks, all by one rule, be they ground truth, regions of interest or foreground: transparency that
differs from pixel to pixel decides alone: strokes on a transparent layer mark where they are, in
any colour. Else colours decide (those of the palette where there is one), and every value above 0
marks: white, red, and the class numbers 1, 2, 3. Two kinds of small values are no marks: those of
lossy compression (JPEG, lossy WebP), and the soft edge of a mask that was resized, which is grey
not more than two pixels from white. There, values above one half mark.
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
    """An 8-bit RGB image in the orientation in which a viewer shows it.

    Args:
        white_level: in the place of that of `reading`.

    Raises:
        UnreadableImage: missing, not whole, of a format that is not read, of several pages, too
            small or too large.
    """
    if white_level is not None:
        reading = replace(reading, white_level=white_level)
    picture = open_picture(path, reading)
    refuse_small(picture)
    return picture.rgb(reading.white_level)


def read_masks(paths: Sequence[Path], reading: Reading = DEFAULT_READING) -> Mask:
    """Several masks of one image together, (H, W) bool.

    Raises:
        UnreadableImage: as for images, or masks of different sizes.
    """
    marked = read_mask(paths[0], reading)
    for path in paths[1:]:
        other = read_mask(path, reading)
        if other.shape != marked.shape:
            raise UnreadableImage(path, f"of another size than {paths[0].name}")
        marked |= other
    return marked


def read_mask(path: Path, reading: Reading = DEFAULT_READING) -> Mask:
    """(H, W) bool, true where the mask marks.

    The page and the white level of `reading` are those of images: a mask has one page.

    Raises:
        UnreadableImage: as for images.
    """
    return marked(open_mask(path, reading))


def open_mask(path: Path, reading: Reading = DEFAULT_READING) -> Picture:
    """The mask's picture, for `marked` and for what else is asked of it."""
    return open_picture(path, Reading(max_megapixels=reading.max_megapixels))


def marked(picture: Picture) -> Mask:
    """(H, W) bool, upright.

    Raises:
        UnreadableImage: floating-point values that are no numbers, or where 0 is white.
    """
    values = picture.mask_values()
    half = values > _WHITE.get(values.dtype.name, 0) / 2
    if picture.lossy:
        return picture.upright(half)
    return picture.upright(half if _edges_are_soft(values) else values > 0)


def _edges_are_soft(values: NDArray[Any]) -> bool:
    """Grey lies beside white only; class numbers lie elsewhere too."""
    white = values == _WHITE.get(values.dtype.name)
    grey = (values > 0) & ~white
    if not white.any() or not grey.any():
        return False
    near = cv2.dilate(white.astype(np.uint8), np.ones((2 * _EDGE + 1,) * 2, np.uint8))
    return bool(near[grey].all())
