"""Read samples of more than eight bits; Pillow keeps them only for grey images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from urd.data.picture import DeepSamples, white_is_zero
from urd.data.whole_files import codestreams, netpbm_raster

GREY_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_AS_STORED = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
_BITS_PER_SAMPLE, _PLANAR_CONFIGURATION, _SEPARATE = 258, 284, 2  # of TIFF
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # we report errors ourselves


def deep_samples(
    image: Image.Image, tile: Any, data: bytes, page: int = 0, *, exact: bool = True
) -> DeepSamples | None:
    """The deep samples of a file that Pillow has loaded; `None` if it has at most eight bits.

    Args:
        tile: the first of `image.tile` before loading; it says how the samples are stored.
        data: the whole file.
        page: counted from 0.
        exact: refuse colours if only their upper eight bits can be read.

    Raises:
        ValueError: the samples cannot be read.
    """
    if image.format == "JPEG2000":
        return _of_jpeg_2000(data)
    if image.format == "PPM":
        return _of_netpbm(image, tile, data, exact)
    arguments = tile.args
    stored = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    if image.mode in GREY_MODES:
        return of_grey(image, stored)
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PLANAR_CONFIGURATION) == _SEPARATE and max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8:
        raise ValueError("16-bit colours in separate planes; save them interleaved")
    if ";16" not in stored or image.format == "BMP":  # BMP: 16 bits in all
        return None
    if image.mode in ("RGB", "RGBA"):
        return DeepSamples(_colours(_by_opencv(data, page), stored))
    if exact:
        raise ValueError(f"16-bit {image.mode} cannot be scaled to --white-level; save as RGB")
    return None


def of_grey(image: Image.Image, stored: str = "") -> DeepSamples:
    """Grey samples of a loaded image; its transparent value, if any, becomes alpha."""
    values = np.asarray(image)
    if stored == "I;32N":  # Pillow reads unsigned values as signed
        values = values.view(np.uint32)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        values = np.dstack([values, np.where(values == transparent, 0, 65535)])
    white = 4095 if stored == "I;12" else None
    return DeepSamples(values, white, white_is_zero=white_is_zero(image))


def _colours(values: NDArray[np.uint16], stored: str) -> NDArray[np.uint16]:
    """RGB or RGBA from OpenCV's order."""
    if values.ndim != 3 or values.dtype != np.uint16:
        raise ValueError("OpenCV does not support these 16-bit colours")
    if stored.startswith("RGBX"):
        values = values[..., :3]
    if values.shape[2] == 3:
        return values[..., ::-1]
    colours, alpha = values[..., 2::-1], values[..., 3:]
    if stored.startswith("RGBa"):  # colours are multiplied by alpha: divide
        whole = colours.astype(np.float64) * 65535 / np.maximum(alpha, 1)
        colours = whole.clip(0, 65535).round().astype(np.uint16)
    return np.dstack([colours, alpha])


def _by_opencv(data: bytes, page: int) -> NDArray[np.uint16]:
    """Samples as stored; only the orientation of a TIFF is applied, by OpenCV."""
    encoded = np.frombuffer(data, np.uint8)
    try:
        if page == 0:
            found = cv2.imdecode(encoded, _AS_STORED)
        else:
            _, pages = cv2.imdecodemulti(encoded, _AS_STORED, range=(page, page + 1))
            found = pages[0] if pages else None
    except cv2.error as error:
        raise ValueError("16-bit colours that OpenCV cannot read") from error
    if found is None:
        raise ValueError("16-bit colours that OpenCV cannot read")
    return np.asarray(found)


def _of_jpeg_2000(data: bytes) -> DeepSamples | None:
    """Samples of a JPEG 2000 file; it states their bits, and so the white."""
    stream = codestreams(data)[0]
    bits = 1 + (stream[42] & 0x7F)
    if bits <= 8:
        return None
    values = _by_opencv(data, 0)
    white = 2**bits - 1
    colours = _colours(values, "") if values.ndim == 3 else values
    return DeepSamples(colours, None if bits == 16 else white, white)


def _of_netpbm(image: Image.Image, tile: Any, data: bytes, exact: bool) -> DeepSamples | None:
    """Samples of a Netpbm file; it states its largest value, which is white if below 65535."""
    raster = netpbm_raster(image, tile)
    if raster is None:  # text samples, which Pillow scales
        largest = tile.args[1] if isinstance(tile.args, tuple) else 255
        if exact and largest == 65535 and image.mode == "RGB":
            raise ValueError("16-bit colours as text; save them as binary PPM")
        white = None if largest == 65535 else 65535
        return DeepSamples(np.asarray(image), white) if image.mode == "I" else None
    if raster.largest < 256:
        return None
    end = raster.begin + raster.length
    values = np.frombuffer(data[raster.begin : end], ">u2").astype(np.uint16)
    shape = (image.height, image.width, -1) if image.mode == "RGB" else (image.height, image.width)
    return DeepSamples(values.reshape(shape), None if raster.largest == 65535 else raster.largest)
