"""The limit on pixels: it protects against bombs, it can be raised, and it is ours alone."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from conftest import TINY, picture
from PIL import Image

from urd.config import FitConfig
from urd.data import DEFAULT_READING, Reading, UnreadableImage, read_mask, read_rgb
from urd.errors import UrdError, UsageError
from urd.evaluation.map_files import read_map

FORMATS = {
    ".png": {},
    ".tif": {},
    ".tiff": {"compression": "tiff_lzw"},
    ".jpg": {},
    ".webp": {},
    ".bmp": {},
    ".gif": {},
    ".jp2": {},
    ".pgm": {},
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_limit_can_be_raised_above_pillows(tmp_path, monkeypatch, suffix):
    """Pillow refuses what is over the double of a limit of its own, which is set very low here."""
    path = tmp_path / f"scan{suffix}"
    Image.new("L", (1200, 1000), 200).save(path, **FORMATS[suffix])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(
        UnreadableImage, match="over 1 megapixels; allow more with --max-megapixels"
    ):
        read_rgb(path, reading=Reading(max_megapixels=1))
    assert read_rgb(path, reading=Reading(max_megapixels=2)).size == (1200, 1000)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_masks_and_maps_follow_the_limit(tmp_path):
    path = tmp_path / "m.png"
    Image.new("L", (1200, 1000), 200).save(path)
    for read, error in ((read_mask, UnreadableImage), (read_map, UrdError)):
        assert read(path, DEFAULT_READING).shape == (1000, 1200)
        with pytest.raises(error, match="over 1 megapixels; allow more with --max-megapixels"):
            read(path, Reading(max_megapixels=1))


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    canvas = (2**14 - 1).to_bytes(3, "little") * 2
    webp = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", len(webp)) + webp)
    for name in ("a.png", "a.webp"):
        with pytest.raises(UnreadableImage, match="over 100 megapixels"):
            read_rgb(tmp_path / name)


def test_threads_that_set_the_limit_leave_it_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for index in range(20):
        Image.fromarray(picture(np.random.default_rng(index))).save(tmp_path / f"{index}.png")
    with ThreadPoolExecutor(8) as pool:
        sizes = set(pool.map(lambda path: read_rgb(path).size, sorted(tmp_path.iterdir())))
    assert sizes == {(48, 48)}
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize(("name", "value"), [("page", -1), ("max_megapixels", 0)])
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} is {value}; it must be between"):
        FitConfig(**{name: value})


def test_settings_without_the_new_options_still_load():
    """Model files and runs of earlier versions have none of them."""
    settings = FitConfig(backbone=TINY).to_dict()
    for name in ("page", "max_megapixels"):
        del settings[name]
    assert Reading.of(FitConfig.from_mapping(settings)) == DEFAULT_READING


def test_a_file_far_longer_than_its_pixels_is_not_read(tmp_path, monkeypatch):
    content = io.BytesIO()
    Image.new("L", (40, 40)).save(content, "PNG")
    with (tmp_path / "a.png").open("wb") as file:
        file.write(content.getvalue())
        file.truncate(2**26 + 1)  # takes no space on the disk
    with pytest.raises(UnreadableImage, match="over 64 MiB"):
        read_rgb(tmp_path / "a.png", reading=Reading(max_megapixels=1))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_map_of_several_pages_is_refused(tmp_path, kind):
    pages = [np.zeros((20, 30), kind), np.ones((20, 30), kind)]
    cv2.imwritemulti(str(tmp_path / "m.tiff"), pages)
    with pytest.raises(UrdError, match="several pages"):
        read_map(tmp_path / "m.tiff")
