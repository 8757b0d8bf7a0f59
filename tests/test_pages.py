"""Files with several pages or frames: none of them is judged by its first alone."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image, TiffImagePlugin
from tiffs import tiff

from urd.data import Reading, UnreadableImage, read_mask, read_rgb
from urd.data.image_files import DEFAULT_READING, decode

RNG = np.random.default_rng(0)
FIRST, SECOND = (Image.fromarray(picture(RNG)) for _ in range(2))


def encoded(kind: str, *pages: Image.Image, **options: object) -> bytes:
    content = io.BytesIO()
    pages[0].save(content, kind, save_all=True, append_images=pages[1:], **options)
    return content.getvalue()


def plain(kind: str, image: Image.Image, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def two_codestreams() -> bytes:
    """A JPEG 2000 file with a second picture behind the first."""
    code = plain("JPEG2000", SECOND, no_jp2=True)
    return plain("JPEG2000", FIRST) + struct.pack(">I4s", 8 + len(code), b"jp2c") + code


SEVERAL = {
    "TIFF": encoded("TIFF", FIRST, SECOND),
    "PNG": encoded("PNG", FIRST, SECOND),
    "WEBP": encoded("WEBP", FIRST, SECOND, lossless=True),
    "GIF": encoded("GIF", FIRST.quantize(64), SECOND.quantize(64)),
    "MPO": encoded("MPO", FIRST, SECOND, quality=95),
}
NOT_CHOSEN = {
    "PPM": plain("PPM", FIRST) + plain("PPM", SECOND),
    "JPEG2000": two_codestreams(),
}


def read(content: bytes, page: int = 0) -> np.ndarray:
    return np.asarray(decode(content, Path("a"), Reading(page=page)).rgb()).astype(int)


@pytest.mark.parametrize("kind", [*SEVERAL, *NOT_CHOSEN])
def test_a_file_of_several_pages_is_refused(kind):
    with pytest.raises(UnreadableImage, match="several pages or frames: choose one with --page"):
        read((SEVERAL | NOT_CHOSEN)[kind])


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_page_is_chosen(kind):
    for page, expected in ((1, FIRST), (2, SECOND)):
        close = np.abs(read(SEVERAL[kind], page) - np.asarray(expected)).mean()
        assert close < 6
    with pytest.raises(UnreadableImage, match="no page 3"):
        read(SEVERAL[kind], 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "PPM", "JPEG2000", "GIF", "TIFF"])
def test_a_single_picture_is_page_one_and_has_no_other(kind):
    content = plain(kind, FIRST)
    assert np.array_equal(read(content), read(content, 1))
    with pytest.raises(UnreadableImage, match="no page 2"):
        read(content, 2)


def test_a_page_of_sixteen_bit_colours(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pages = RNG.integers(0, 4096, (2, 40, 50, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")
    for page in (1, 2):
        found = read_rgb(tmp_path / "a.tif", reading=Reading(4095, page=page))
        assert np.array_equal(np.asarray(found), np.round(pages[page - 1] / 4095 * 255))


def reduced(image: Image.Image) -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1
    image.encoderinfo = {"tiffinfo": tags}
    return tags


def test_a_reduced_copy_beside_a_tiff_is_no_page():
    content = io.BytesIO()
    small = FIRST.resize((24, 24))
    reduced(small)
    FIRST.save(content, "TIFF", save_all=True, append_images=[small])
    assert np.array_equal(read(content.getvalue()), np.asarray(FIRST))


def test_the_preview_in_a_camera_raw_file_is_no_picture():
    content = plain("TIFF", FIRST, tiffinfo=reduced(FIRST.copy()))
    with pytest.raises(UnreadableImage, match="camera raw"):
        read(content)


def test_the_small_pictures_that_phones_add_are_no_pages():
    """Previews, depths and gain maps."""
    content = encoded("MPO", FIRST, SECOND.resize((24, 24)), quality=95)
    assert np.abs(read(content) - np.asarray(FIRST)).mean() < 6


def test_a_mask_has_one_page_whichever_the_images_have(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[3:9] = 255
    (tmp_path / "m.tif").write_bytes(tiff(mask))
    assert np.array_equal(read_mask(tmp_path / "m.tif", Reading(page=2)), mask > 0)
    (tmp_path / "two.tif").write_bytes(SEVERAL["TIFF"])
    with pytest.raises(UnreadableImage, match="several pages"):
        read_mask(tmp_path / "two.tif", DEFAULT_READING)
