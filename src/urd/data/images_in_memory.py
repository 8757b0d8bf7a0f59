"""Read arrays, Pillow images and the bytes of image files exactly like files of the same image."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFile

from urd.data.deep_samples import GREY_MODES, of_grey
from urd.data.image_files import FORMATS, Reading, decode, open_picture, refuse_small
from urd.data.picture import DeepSamples, Picture, UnreadableImage
from urd.errors import UsageError

ImageLike = str | Path | bytes | bytearray | memoryview | Image.Image | np.ndarray
Channels = Literal["rgb", "bgr"]
IN_MEMORY = Path("image")  # the name in messages for an image without a path
_ENCODED = (bytes, bytearray, memoryview)


class UnusableImage(UnreadableImage, UsageError):
    """The caller passed something that is not a usable image: also a wrong request."""


def rgb_of(image: ImageLike, reading: Reading, channels: Channels = "rgb") -> Image.Image:
    """An 8-bit RGB image, by the rules of `decoding`.

    Args:
        channels: the order of colours in an array; OpenCV's is bgr.

    Raises:
        UnreadableImage: a file, or the bytes of a file, cannot be used.
        UnusableImage: an array or a Pillow image cannot be used, or `image` is not an image.
        UsageError: `channels` is unknown.
    """
    try:
        picture = _picture_of(image, reading, channels)
        refuse_small(picture)
        return picture.rgb(reading.white_level)
    except UnreadableImage as error:
        if isinstance(error, UnusableImage) or isinstance(image, (str, Path, *_ENCODED)):
            raise
        raise UnusableImage(error.path, error.reason) from error


def _picture_of(image: Any, reading: Reading, channels: Channels) -> Picture:
    if channels not in ("rgb", "bgr"):
        raise UsageError(f"channels is {channels!r}; give rgb or bgr")
    if isinstance(image, str | Path):
        return open_picture(Path(image), reading)
    if isinstance(image, _ENCODED):
        return decode(bytes(image), IN_MEMORY, reading)
    if isinstance(image, Image.Image):
        return _of_pillow(image, reading)
    if isinstance(image, np.ndarray):
        return _of_array(image, channels)
    none = "None (OpenCV's answer to a file that it cannot read)"
    raise UnusableImage(
        IN_MEMORY,
        "an image must be a path, the bytes of an image file, a Pillow image or an array, not "
        f"{none if image is None else type(image).__name__}",
    )


def _of_pillow(image: Image.Image, reading: Reading) -> Picture:
    if isinstance(image, ImageFile.ImageFile) and _is_unread(image):
        assert image.fp is not None
        image.fp.seek(0)
        return decode(image.fp.read(), IN_MEMORY, reading)
    if getattr(image, "n_frames", 1) > 1:
        raise UnusableImage(IN_MEMORY, "it has several frames; give one of them: image.copy()")
    try:
        image.load()
    except Exception as error:  # Pillow raises many types on damaged files
        raise UnusableImage(IN_MEMORY, f"cannot be decoded ({error})") from error
    if image.mode == "La":  # Pillow converts all other modes to RGB
        image = image.convert("LA")
    deep = of_grey(image) if image.mode in GREY_MODES else None
    return Picture(IN_MEMORY, image, deep)


def _is_unread(image: ImageFile.ImageFile) -> bool:
    """Whether it is open but not decoded: then we read the file, as Pillow cuts 16-bit colours."""
    known = image.format in (*FORMATS, "MPO")
    return bool(known and image.tile and image.fp is not None and image.tell() == 0)


def _of_array(array: np.ndarray, channels: Channels) -> Picture:
    unsigned = array.dtype.kind == "u" and array.dtype.itemsize in (1, 2)
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not unsigned or not shaped or array.size == 0:
        raise UnusableImage(
            IN_MEMORY,
            "an image array must be uint8 or uint16, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"not {array.dtype} {array.shape}",
        )
    values = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if channels == "bgr" and values.ndim == 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    if array.dtype.itemsize == 1:
        return Picture(IN_MEMORY, Image.fromarray(np.ascontiguousarray(values)))
    height, width = values.shape[:2]
    deep = DeepSamples(values.astype(np.uint16))
    return Picture(IN_MEMORY, Image.new("1", (width, height)), deep)
