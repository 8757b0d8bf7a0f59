"""More than eight bits per sample: scaled by a fixed white, as a viewer shows them."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from tiffs import tiff

from urd.data import Reading, UnreadableImage
from urd.data.check import check
from urd.data.images_in_memory import rgb_of

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 4096, (40, 50)).astype(np.uint16)
COLOUR = RNG.integers(0, 4096, (40, 50, 3)).astype(np.uint16)


def shown(values: np.ndarray, white: int) -> np.ndarray:
    grey_or_rgb = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    return np.round(grey_or_rgb.astype(np.float64) / white * 255).clip(0, 255)


def png(values: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """16 bits, of 1 to 4 channels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    channels = values.shape[2] if values.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + (chunk(b"tRNS", struct.pack(f">{channels}H", *transparent)) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def netpbm(values: np.ndarray, largest: int) -> bytes:
    height, width = values.shape[:2]
    head = f"P{6 if values.ndim == 3 else 5}\n# camera\n{width} {height}\n{largest}\n".encode()
    return head + values.astype(">u2").tobytes()


def read(content: bytes, white_level: int) -> np.ndarray:
    return np.asarray(rgb_of(content, Reading(white_level))).astype(int)


FILES = {
    "grey png": (png(GREY), GREY),
    "rgb png": (png(COLOUR), COLOUR),
    "grey tiff": (tiff(GREY), GREY),
    "grey tiff, motorola": (tiff(GREY, order=">"), GREY),
    "rgb tiff": (tiff(COLOUR), COLOUR),
    "rgb tiff, motorola": (tiff(COLOUR, order=">"), COLOUR),
    "rgb and nothing tiff": (tiff(np.dstack([COLOUR, GREY]), extra=0), COLOUR),
    "pgm": (netpbm(GREY, 65535), GREY),
    "ppm": (netpbm(COLOUR, 65535), COLOUR),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("white_level", [4095, 65535])
def test_deep_files_follow_the_white_level(name, white_level):
    content, values = FILES[name]
    assert np.abs(read(content, white_level) - shown(values, white_level)).max() <= 1


@pytest.mark.parametrize("values", [GREY, COLOUR], ids=["grey", "rgb"])
@pytest.mark.parametrize("white_level", [4095, 65535])
def test_a_file_that_states_its_largest_value_is_white_there(values, white_level):
    assert np.abs(read(netpbm(values, 4095), white_level) - shown(values, 4095)).max() <= 1


@pytest.mark.parametrize("white_level", [4095, 65535])
def test_a_deep_tiff_in_which_zero_is_white(white_level):
    content = tiff((white_level - GREY).astype(np.uint16), photometric=0)
    assert np.abs(read(content, white_level) - shown(GREY, white_level)).max() <= 1


def test_deep_colours_in_separate_planes_are_refused():
    with pytest.raises(UnreadableImage, match="separate planes"):
        read(tiff(COLOUR, planar=True), 65535)


def test_eight_bit_colours_in_separate_planes_are_read():
    values = (COLOUR >> 4).astype(np.uint8)
    assert np.array_equal(read(tiff(values, planar=True), 65535), values)


@pytest.mark.parametrize("white_level", [4095, 65535])
def test_deep_transparency_is_laid_over_white(white_level):
    alpha = np.zeros((40, 50), np.uint16)
    alpha[:20] = 65535
    for colours in (COLOUR, GREY):
        expected = shown(colours, white_level)
        expected[20:] = 255
        found = read(png(np.dstack([colours, alpha])), white_level)
        assert np.abs(found - expected).max() <= 1


def test_a_transparent_value_is_laid_over_white():
    grey, colour = GREY.copy(), COLOUR.copy()
    grey[3, 4], colour[3, 4] = 4000, (1, 2, 3)
    clear = grey == 4000
    found = read(png(grey, (4000,)), 4095)
    assert (found[clear] == 255).all()
    assert np.abs(found - shown(grey, 4095))[~clear].max() <= 1
    assert (read(png(colour, (1, 2, 3)), 4095)[3, 4] == 255).all()


@pytest.mark.parametrize("values", [GREY, COLOUR, GREY >> 4, np.dstack([COLOUR >> 4, GREY >> 4])])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_as_its_orientation_says(values, orientation):
    """Pillow maps an uncompressed file into memory with the turned size."""
    values = values if values.max() > 255 else values.astype(np.uint8)
    stored = {
        1: values,
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values.swapaxes(0, 1),
        6: np.rot90(values, 1),
        7: values[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(values, -1),
    }[orientation]
    extra = 2 if values.ndim == 3 and values.shape[2] == 4 else None
    upright, turned = (
        tiff(v, orientation=o, extra=extra) for v, o in ((values, 1), (stored, orientation))
    )
    assert np.array_equal(read(turned, 4095), read(upright, 4095))


@pytest.mark.parametrize(("bits", "white_level"), [(8, 255), (10, 1023), (12, 4095), (14, 16383)])
def test_check_proposes_the_white_level(tmp_path, bits, white_level):
    for index in range(3):
        values = RNG.integers(0, 256, (32, 32)).astype(np.uint16) << (bits - 8)
        Image.fromarray(values).save(tmp_path / f"{index}.tif")
    (said,) = check(tmp_path).problems["white_level"]
    assert f"--white-level {white_level};" in said
    assert check(tmp_path, Reading(white_level)).problems == {}
    assert "are above --white-level" in check(tmp_path, Reading(100)).problems["white_level"][0]


def test_check_proposes_no_white_level_where_all_bits_are_used(tmp_path):
    Image.fromarray(np.linspace(0, 65535, 1024, dtype=np.uint16).reshape(32, 32)).save(
        tmp_path / "a.png"
    )
    assert check(tmp_path).problems == {}


def test_jpeg_2000_states_its_bits():
    content = io.BytesIO()
    Image.fromarray(GREY * 16).save(content, "JPEG2000")
    assert np.array_equal(read(content.getvalue(), 65535), shown(GREY * 16, 65535))
    large = np.tile(COLOUR, (4, 4, 1))
    _, colours = cv2.imencode(
        ".jp2", large[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    )
    assert np.abs(read(colours.tobytes(), 4095) - shown(large, 4095)).max() <= 1
