"""Image files to RGB, the way a person would see them.

Rules: EXIF orientation is applied; transparency is laid over white; grey becomes three equal
channels; palette, CMYK, LAB and the like are converted; of an animation the first frame counts;
16-bit values are scaled by a fixed white level (65535 unless told otherwise), never by the image's
own range, so that the same brightness stays the same in every image.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from urd.errors import UrdError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 100_000_000
MIN_SIDE = 16
WHITE_LEVEL = 65535
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")


class UnreadableImage(UrdError):
    """An image that can not be used; `reason` says why, `path` which one."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def read_rgb(path: Path, white_level: int = WHITE_LEVEL) -> Image.Image:
    """An 8-bit RGB image in the orientation in which a viewer shows it.

    Raises:
        UnreadableImage: missing, broken, truncated, of another format, too small or too large.
    """
    image = _open(path)
    if min(image.size) < MIN_SIDE:
        raise UnreadableImage(path, f"{image.width}x{image.height} is under {MIN_SIDE} pixels")
    return to_rgb(image, path, white_level)


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool, true where the mask marks a defect.

    Every value above 0 counts, also small class numbers; of lossy JPEG masks, values above 127.

    Raises:
        UnreadableImage: as for images.
    """
    image = _open(path)
    if image.mode in ("P", "L", "1", *_SIXTEEN_BIT_MODES):  # palette indices are class numbers
        values = np.asarray(image)
    else:
        values = np.asarray(image.convert("RGB")).max(axis=2)
    return np.asarray(values > (127 if image.format == "JPEG" else 0))


def to_rgb(image: Image.Image, path: Path, white_level: int = WHITE_LEVEL) -> Image.Image:
    """Convert a decoded image of any mode to 8-bit RGB by the rules of this module."""
    image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BIT_MODES:
        values = np.asarray(image).astype(np.float32) * (255 / white_level)
        grey = values.clip(0, 255).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "F":
        raise UnreadableImage(
            path, "floating-point pixels have no fixed white; save as 8 or 16 bit"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _open(path: Path) -> Image.Image:
    """A fully decoded image; its pixel count is checked before any pixel is read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit is checked below
            image = Image.open(path, formats=_FORMATS)
        if image.width * image.height > MAX_PIXELS:
            image.close()
            raise UnreadableImage(
                path, f"{image.width}x{image.height} is over {MAX_PIXELS // 10**6} megapixels"
            )
        with image:
            image.load()
        return image
    except FileNotFoundError as error:
        raise UnreadableImage(path, "no such file") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, "not an image of a known format") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UnreadableImage(path, f"can not be decoded ({reason})") from error
