"""Image files to RGB, the way a person would see them.

Rules: EXIF orientation is applied; transparency is laid over white; grey becomes three equal
channels; palette, CMYK, LAB and the like are converted; of an animation the first frame counts;
16-bit values are scaled by a fixed white level (65535 unless told otherwise), never by the image's
own range, so that the same brightness stays the same in every image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from urd.errors import NotJudged, first_line
from urd.threads import without_warnings

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 100_000_000
MIN_SIDE = 16
WHITE_LEVEL = 65535
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_SIXTEEN_BIT_COLOUR = "urd_sixteen_bit_colour"
_ORIENTATION = 0x0112
_AS_STORED = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")


class UnreadableImage(NotJudged):
    """An image file that cannot be used."""


def read_rgb(path: Path, white_level: int = WHITE_LEVEL) -> Image.Image:
    """An 8-bit RGB image in the orientation in which a viewer shows it.

    Raises:
        UnreadableImage: missing, broken, truncated, of another format, too small or too large.
    """
    image = _open(path)
    if min(image.size) < MIN_SIDE:
        raise UnreadableImage(path, f"{image.width}x{image.height} is under {MIN_SIDE} pixels")
    if white_level != WHITE_LEVEL and image.info.get(_SIXTEEN_BIT_COLOUR):
        image = _rescaled_colour(image, path, white_level)
    return to_rgb(image, path, white_level)


def read_masks(paths: Sequence[Path]) -> np.ndarray:
    """Several masks of one image together, (H, W) bool.

    Raises:
        UnreadableImage: as for images, or masks of different sizes.
    """
    marked = read_mask(paths[0])
    for path in paths[1:]:
        other = read_mask(path)
        if other.shape != marked.shape:
            raise UnreadableImage(path, f"of another size than {paths[0].name}")
        marked |= other
    return marked


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
    turn = _turn(image)
    if turn is not None:
        image = image.transpose(turn)
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


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What its EXIF orientation asks for; damaged EXIF asks for nothing."""
    try:
        with without_warnings():
            return _TURNS.get(int(image.getexif().get(_ORIENTATION, 1)))
    except Exception:  # foreign bytes raise errors of many types here, and the pixels are fine
        return None


def _rescaled_colour(image: Image.Image, path: Path, white_level: int) -> Image.Image:
    """16-bit colour by OpenCV, scaled; Pillow keeps the upper eight bits of it only."""
    values = cv2.imdecode(np.fromfile(path, np.uint8), _AS_STORED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise UnreadableImage(path, "16-bit colour that cannot be scaled to --white-level")
    codes = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    rgb = cv2.cvtColor(values, codes[values.shape[2]]).astype(np.float32)
    rgb[..., :3] *= 255 / white_level
    rgb[..., 3:] *= 255 / 65535
    scaled = Image.fromarray(rgb.clip(0, 255).round().astype(np.uint8))
    turn = _turn(image)
    return scaled if turn is None else scaled.transpose(turn)


def _open(path: Path) -> Image.Image:
    """A fully decoded image; its pixel count is checked before any pixel is read."""
    try:
        with without_warnings():  # our own limit is checked below
            image = Image.open(path, formats=_FORMATS)
        if image.width * image.height > MAX_PIXELS:
            image.close()
            raise UnreadableImage(
                path, f"{image.width}x{image.height} is over {MAX_PIXELS // 10**6} megapixels"
            )
        # BGR;16 of a BMP is 16 bits for all three channels.
        sixteen_bit = image.format != "BMP" and any(";16" in str(tile) for tile in image.tile)
        with image:
            image.load()
        image.info[_SIXTEEN_BIT_COLOUR] = sixteen_bit and image.mode in ("RGB", "RGBA")
        return image
    except FileNotFoundError as error:
        raise UnreadableImage(path, "no such file") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, f"over {MAX_PIXELS // 10**6} megapixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, "not an image of a known format") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UnreadableImage(path, f"cannot be decoded ({reason})") from error
