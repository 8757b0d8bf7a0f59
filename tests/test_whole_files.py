"""Image files that were cut off or half copied are refused; a decoder would fill the rest."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image, ImageFile

from urd.data import DEFAULT_READING, UnreadableImage
from urd.data.image_files import decode

RGB = Image.fromarray(picture(np.random.default_rng(0), 96))
GREY = RGB.convert("L")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


COMPRESSED = {
    "png": encoded(RGB, "PNG"),
    "jpeg": encoded(RGB, "JPEG"),
    "flat jpeg": encoded(Image.new("RGB", (96, 96)), "JPEG", optimize=True),
    "progressive jpeg": encoded(RGB, "JPEG", progressive=True),
    "jpeg with trailer": encoded(RGB, "JPEG") + b"camera" * 10,
    "webp": encoded(RGB, "WEBP"),
    "lossless webp": encoded(RGB, "WEBP", lossless=True),
    "gif": encoded(RGB, "GIF"),
    "jp2": encoded(RGB, "JPEG2000"),
    "j2k": encoded(RGB, "JPEG2000", no_jp2=True),
    "tiff lzw": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "tiff jpeg": encoded(RGB, "TIFF", compression="jpeg"),
    "plain pgm": b"P2 96 96 255 " + b" ".join(b"%d" % v for v in np.asarray(GREY).ravel()),
}
RAW = {
    "bmp": encoded(RGB, "BMP"),
    "ppm": encoded(RGB, "PPM"),
    "pgm": encoded(GREY, "PPM"),
    "pbm": encoded(GREY.convert("1"), "PPM"),
    "tiff": encoded(RGB, "TIFF"),
}
EVERY = COMPRESSED | RAW


def read(content: bytes) -> np.ndarray:
    return np.asarray(decode(content, Path("a"), DEFAULT_READING).rgb())


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("tolerant", [False, True], ids=["strict", "tolerant"])
def test_a_file_that_was_cut_off_is_refused(name, tolerant, monkeypatch):
    """Also where the user's own program has told Pillow to fill what is missing."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)
    content = EVERY[name].removesuffix(b"camera" * 10)
    read(content)
    for kept in (0.97, 0.9, 0.5):
        with pytest.raises(UnreadableImage, match="cannot be decoded"):
            read(content[: int(kept * len(content))])


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_file_of_which_the_end_is_zeros_is_refused(name):
    content = COMPRESSED[name].removesuffix(b"camera" * 10)
    for kept in (0.95, 0.9, 0.5):
        whole = int(kept * len(content))
        with pytest.raises(UnreadableImage, match="cannot be decoded"):
            read(content[:whole] + bytes(len(content) - whole))


def test_what_comes_behind_a_whole_picture_does_not_matter():
    for name in ("png", "jpeg", "webp", "bmp"):
        assert np.array_equal(read(EVERY[name] + bytes(100)), read(EVERY[name]))
    assert np.array_equal(read(EVERY["jpeg with trailer"]), read(EVERY["jpeg"]))


def test_a_changed_pixel_of_a_png_is_refused():
    content = bytearray(EVERY["png"])
    content[len(content) // 2] ^= 1
    with pytest.raises(UnreadableImage, match="checksum"):
        read(bytes(content))


@pytest.mark.parametrize("size", [64, 1024])
@pytest.mark.parametrize("options", [{"quality": 80}, {"quality": 100}, {"lossless": True}])
def test_flat_pictures_end_in_zeros_and_are_whole(size, options):
    """Lossy WebP writes long runs of zeros for them."""
    flat = Image.new("RGB", (size, size), "white")
    flat.paste(RGB)
    for kind in ("WEBP", "TIFF", "GIF", "JPEG2000"):
        read(encoded(flat, kind, **(options if kind == "WEBP" else {})))
