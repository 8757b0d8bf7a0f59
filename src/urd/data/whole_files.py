"""Check that an image file is whole.

Decoders silently fill the missing part of a broken copy with grey or black. So this module checks
what the format offers: checksums, the end marker and stated lengths. It also refuses zeros where
compressed data cannot end in zeros: a copy that gets its full length first and then stops half-way
ends so. Uncompressed BMP, TIFF and PPM only state lengths: zeros at their end are black pixels.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

_NO_END = "its end is missing"
_ZEROS = "its data end in zeros, as if a copy stopped half-way"
# In compressed data 0xff is followed by 0 or a restart marker: anything else is a marker.
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_JPEG_WITHOUT_LENGTH = (0x01, 0xD8)
_STRIPS, _TILES = (273, 279), (324, 325)  # TIFF tags: offsets, lengths
_COMPRESSION, _NONE, _WEBP = 259, 1, 50001
_JPEG_TABLES = 347


def refuse_partial(image: ImageFile.ImageFile, data: bytes) -> None:
    """Check the bytes of a file that Pillow has opened at the page to read.

    Raises:
        ValueError: the file is not whole; the message says why.
    """
    looked_at = _CHECKS.get(image.format or "")
    try:
        if looked_at is not None:
            looked_at(image, data)
    except (struct.error, IndexError) as error:  # a stated length goes beyond the end
        raise ValueError(_NO_END) from error


def codestreams(data: bytes) -> list[bytes]:
    """The compressed data of each picture in a JPEG 2000 file."""
    if not data.startswith(b"\0\0\0\x0c"):
        return [data]
    return [body for kind, body in _boxes(data) if kind == b"jp2c"]


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a WebP: kind and content.

    Raises:
        ValueError: a chunk goes beyond the end of the file.
    """
    at, end = 12, 8 + struct.unpack_from("<I", data, 4)[0]
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        at += 8 + length
        if kind == bytes(4) or at > min(end, len(data)):
            raise ValueError(_NO_END)
        yield kind, data[at - length : at]
        at += length % 2


@dataclass(frozen=True)
class Raster:
    """Offset and length in bytes of the samples of a binary PPM, PGM or PBM; largest value."""

    begin: int
    length: int
    largest: int


def netpbm_raster(image: Image.Image, tile: Any) -> Raster | None:
    """The samples in a Netpbm file; `None` if they are text.

    `tile` is the first of `image.tile` before the image was loaded.
    """
    if tile.codec_name == "ppm_plain":
        return None
    mode, largest = tile.args if isinstance(tile.args, tuple) else (tile.args, 255)
    if mode == "1;I":
        return Raster(tile.offset, -(-image.width // 8) * image.height, 1)
    largest = 65535 if mode == "I;16B" else largest
    samples = image.width * image.height * (3 if mode == "RGB" else 1)
    return Raster(tile.offset, samples * (1 if largest < 256 else 2), largest)


def _png(_: ImageFile.ImageFile, data: bytes) -> None:
    at, kind, view = 8, b"", memoryview(data)
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        (stated,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(view[at + 4 : at + 8 + length]) != stated:
            raise ValueError("a checksum in it is wrong")
        at += 12 + length


def _jpeg(image: ImageFile.ImageFile, data: bytes) -> None:
    at = getattr(image, "offset", 0) + 2  # the place of this picture in an MPO
    while found := _JPEG_MARKER.search(data, at):
        at, marker = found.end(), data[found.end() - 1]
        if marker == 0xD9:
            return
        if marker not in _JPEG_WITHOUT_LENGTH:
            at += struct.unpack_from(">H", data, at)[0]
    raise ValueError(_NO_END)


def _webp(image: ImageFile.ImageFile, data: bytes) -> None:
    # Flat areas also end in zeros: lossy files need a fifth of a bit for 16x16 flat pixels.
    blocks = -(-image.width // 16) * -(-image.height // 16)
    most = {b"VP8 ": max(16, blocks // 16), b"VP8L": 16, b"ANMF": 64}
    for kind, body in webp_chunks(data):
        if kind in most and body.endswith(bytes(most[kind])):
            raise ValueError(_ZEROS)


def _tiff(image: ImageFile.ImageFile, data: bytes) -> None:
    tags = cast(TiffImageFile, image).tag_v2
    tables = tags.get(_JPEG_TABLES)
    if tables is not None and not tables.endswith(b"\xff\xd9"):
        raise ValueError(_ZEROS)
    compressed = tags.get(_COMPRESSION, _NONE) not in (_NONE, _WEBP)
    for of_offsets, of_lengths in (_STRIPS, _TILES):
        for offset, length in zip(tags.get(of_offsets, ()), tags.get(of_lengths, ()), strict=False):
            if offset + length > len(data):
                raise ValueError(_NO_END)
            if compressed and length and not any(data[offset : offset + length][-16:]):
                raise ValueError(_ZEROS)


def _bmp(image: ImageFile.ImageFile, data: bytes) -> None:
    (tile,) = image.tile
    if tile.codec_name == "raw" and isinstance(tile.args, tuple):
        stride = int(tile.args[1])
        if tile.offset + stride * image.height > len(data):
            raise ValueError(_NO_END)
    elif data.endswith(bytes(16)):
        raise ValueError(_ZEROS)


def _ppm(image: ImageFile.ImageFile, data: bytes) -> None:
    raster = netpbm_raster(image, image.tile[0])
    if raster is not None and raster.begin + raster.length > len(data):
        raise ValueError(_NO_END)


def _gif(_: ImageFile.ImageFile, data: bytes) -> None:
    """Go from block to block to the trailer."""
    at = 13 + _colour_table(data[10])
    while data[at] != 0x3B:
        if data[at] == 0x21:
            at += 2
        elif data[at] == 0x2C:
            at += 11 + _colour_table(data[at + 9])
        else:
            raise ValueError(_NO_END)
        while data[at]:
            at += 1 + data[at]
        at += 1


def _colour_table(flags: int) -> int:
    """Size of a colour table in bytes."""
    return 3 * 2 ** (1 + flags % 8) if flags & 0x80 else 0


def _jpeg_2000(_: ImageFile.ImageFile, data: bytes) -> None:
    found = codestreams(data)
    if not found or not all(stream.endswith(b"\xff\xd9") for stream in found):
        raise ValueError(_NO_END)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        end = at + length if length else len(data)
        if end > len(data) or end < at + head:
            return
        yield kind, data[at + head : end]
        at = end


_CHECKS: dict[str, Callable[[ImageFile.ImageFile, bytes], None]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "MPO": _jpeg,
    "WEBP": _webp,
    "TIFF": _tiff,
    "BMP": _bmp,
    "PPM": _ppm,
    "GIF": _gif,
    "JPEG2000": _jpeg_2000,
}
