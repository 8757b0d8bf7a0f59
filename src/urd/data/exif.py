"""Which camera took an image, as its EXIF says."""

from __future__ import annotations

from typing import Any

from PIL import Image

from urd.errors import one_line
from urd.system.threads import without_warnings

_MAKE, _MODEL, _CAMERA_IFD, _SERIAL = 271, 272, 0x8769, 0xA431
_LONGEST = 40  # characters of a name; a damaged file may hold anything


def camera_of(image: Image.Image) -> str | None:
    """Make, model and serial number; `None`: the image does not say them, or its EXIF is damaged.

    The text has one line and only printable characters.
    """
    try:
        with without_warnings():
            exif = image.getexif()
            inner = exif.get_ifd(_CAMERA_IFD)
            values = [exif.get(_MAKE), exif.get(_MODEL), inner.get(_SERIAL)]
    except Exception:  # damaged EXIF raises many types; the pixels are fine
        return None
    return " ".join(filter(None, map(_name, values))) or None


def _name(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return one_line(value.replace("\0", " "))[:_LONGEST].strip() if isinstance(value, str) else ""
