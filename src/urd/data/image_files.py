"""Open image files: check that the file is whole and not too large, and decode one picture.

The content decides the format, not the name. If a file has several pages or frames, the user must
choose one. `decoding` makes an image or a mask from the picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from urd.config import FitConfig
from urd.data.deep_samples import deep_samples
from urd.data.formats import HEAD_BYTES, format_of
from urd.data.picture import WHITE_LEVEL, Picture, UnreadableImage
from urd.data.whole_files import codestreams, netpbm_raster, refuse_partial, webp_chunks
from urd.errors import UsageError, first_line
from urd.system.files import special
from urd.system.threads import without_warnings

IMAGE_SUFFIXES = (  # of supported formats
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".gif", ".jp2", ".j2k", ".jpc", ".jpx"),
)
MIN_SIDE = 16
MAX_MEGAPIXELS = 100
_BYTES_PER_PIXEL = 16  # four channels of 32 bits; a larger file is refused
_LEAST_BYTES = 64 * 2**20
_MOST_PAGES = 1000
_OPENERS: dict[str, Callable[[io.BytesIO, str], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
}
FORMATS = tuple(_OPENERS)  # supported formats; JPEG includes MPO, PPM includes PBM and PGM
# TIFF tags and values
_SUBFILE_TYPE, _REDUCED, _TRANSPARENCY, _DNG_VERSION, _COMPRESSION = 254, 1, 4, 50706, 259
_LOSSY_COMPRESSIONS = (6, 7, 34892, 50001)  # old JPEG, JPEG, lossy DNG, WebP


_CODING_STYLE = b"\xff\x52"  # a marker of JPEG 2000


@dataclass(frozen=True)
class Reading:
    """Settings for reading image files.

    Attributes:
        white_level: the 16-bit value that is shown as white.
        max_megapixels: larger images are refused before any pixel is decoded.
        page: the page or frame of a file with several, counted from 1; 0: refuse such files.
    """

    white_level: int = WHITE_LEVEL
    max_megapixels: int = MAX_MEGAPIXELS
    page: int = 0

    @classmethod
    def of(cls, config: FitConfig) -> Reading:
        """The settings of a training."""
        return cls(config.white_level, config.max_megapixels, config.page)

    def changed(self, **options: int | None) -> Reading:
        """A copy with other values; `None` keeps a value.

        Raises:
            UsageError: an option is unknown, or a value is out of range.
        """
        unknown = [name for name in options if name not in asdict(self)]
        if unknown:
            raise UsageError(
                f"unknown option '{unknown[0]}'; choose from {', '.join(asdict(self))}"
            )
        given = {name: value for name, value in options.items() if value is not None}
        return self.of(FitConfig.from_mapping({**asdict(self), **given}))

    @property
    def max_pixels(self) -> int:
        return self.max_megapixels * 1_000_000

    @property
    def max_bytes(self) -> int:
        """Larger files are refused; an image of `max_pixels` needs less."""
        return max(_BYTES_PER_PIXEL * self.max_pixels, _LEAST_BYTES)


DEFAULT_READING = Reading()


def refuse_small(picture: Picture) -> None:
    """Refuse a picture with a side under `MIN_SIDE` pixels.

    Raises:
        UnreadableImage: it is too small.
    """
    width, height = picture.image.size
    if min(width, height) < MIN_SIDE:
        raise UnreadableImage(picture.path, f"{width}x{height} is under {MIN_SIDE} pixels")


def open_picture(path: Path, reading: Reading = DEFAULT_READING) -> Picture:
    """Read and decode a file; only regular files are opened.

    Raises:
        UnreadableImage: as in `read_rgb`, but small images are allowed.
    """
    return decode(_content(path, reading), path, reading)


def decode(data: bytes, path: Path, reading: Reading) -> Picture:
    """Decode the bytes of an image file; `path` is for messages.

    Raises:
        UnreadableImage: as in `read_rgb`, but small images are allowed.
    """
    kind = format_of(data[:HEAD_BYTES])
    if not data:
        raise UnreadableImage(path, "the file is empty")
    if kind is None:
        raise UnreadableImage(path, "not an image of a known format")
    if kind not in _OPENERS:
        raise UnreadableImage(path, f"{kind} files are not supported; save as PNG, TIFF or JPEG")
    try:
        return _decode(kind, data, path, reading)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        reason = f"over {reading.max_megapixels} megapixels; allow more with --max-megapixels"
        raise UnreadableImage(path, reason) from error
    except Exception as error:  # Pillow raises many types on damaged files
        raise UnreadableImage(
            path, f"{kind} that cannot be decoded ({first_line(error)})"
        ) from error


def _decode(kind: str, data: bytes, path: Path, reading: Reading) -> Picture:
    with limited(reading):
        image = _OPENERS[kind](io.BytesIO(data), "")
        if image.width * image.height > reading.max_pixels:
            raise Image.DecompressionBombError
        reason = _no_page(image, data, reading.page)
        if image.format == "TIFF":
            image.getexif()  # Pillow keeps the result, so damaged tags warn only here
    if reason:
        raise UnreadableImage(path, reason)
    refuse_partial(image, data)
    tile = image.tile[0] if image.tile else None
    with limited(reading) if _over_pillows_limit(image) else nullcontext():
        image.load()
    exact = reading.white_level != WHITE_LEVEL
    page = max(reading.page - 1, 0)
    deep = deep_samples(image, tile, data, page, exact=exact) if tile else None
    return Picture(path, image, deep, _is_lossy(image, data))


def _content(path: Path, reading: Reading) -> bytes:
    """Read all bytes at once, so that the decoder sees what was checked if the file changes."""
    most = reading.max_bytes
    kind = special(path)
    if kind is not None:
        raise UnreadableImage(path, f"not a regular file but {kind}")
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError as error:
        raise UnreadableImage(path, "no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UnreadableImage(path, f"cannot be read ({reason})") from error
    if len(data) > most:
        raise UnreadableImage(path, f"over {most // 2**20} MiB; allow more with --max-megapixels")
    if not data:
        raise UnreadableImage(path, "not an image: the file is empty")
    return data


@contextmanager
def limited(reading: Reading) -> Iterator[None]:
    """Replace Pillow's size limit by ours, in one thread at a time: it is global.

    Pillow refuses images over twice its limit, also before it decodes the canvas of a WebP.
    """
    with without_warnings():
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = reading.max_pixels // 2
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _over_pillows_limit(image: Image.Image) -> bool:
    limit = Image.MAX_IMAGE_PIXELS
    return limit is not None and image.width * image.height > limit


def _no_page(image: ImageFile.ImageFile, data: bytes, page: int) -> str:
    """Go to the wanted page; return the reason if that is not possible, else an empty text."""
    if page == 0 and _has_several(image, data):
        return "it has several pages or frames: choose one with --page N"
    try:
        image.seek(max(page - 1, 0))
    except EOFError:
        return f"it has no page {page}"
    tags = getattr(image, "tag_v2", {})
    if tags.get(_SUBFILE_TYPE, 0) & _REDUCED or _DNG_VERSION in tags:
        return "only a preview of a camera raw file can be read; save it as TIFF, PNG or JPEG"
    return ""


def _has_several(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether there is more than one picture, not counting previews and masks of the first."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _has_another_page(image)
    if image.format == "MPO":
        return _has_another_view(image)
    if image.format == "JPEG2000":
        return len(codestreams(data)) > 1
    if image.format == "PPM":
        raster = netpbm_raster(image, image.tile[0])
        return raster is not None and format_of(data[raster.begin + raster.length :]) == "PPM"
    return bool(getattr(image, "is_animated", False))


def _has_another_page(image: TiffImagePlugin.TiffImageFile) -> bool:
    try:
        for page in range(1, _MOST_PAGES):
            image.seek(page)
            if not image.tag_v2.get(_SUBFILE_TYPE, 0) & (_REDUCED | _TRANSPARENCY):
                return True
    except EOFError:
        return False
    finally:
        image.seek(0)
    return True


def _has_another_view(image: Any) -> bool:
    """Whether an MPO has another view: one that is marked so, or is as large as the first.

    Phones add smaller pictures: previews, depth maps and gain maps.
    """
    pixels = image.width * image.height
    for number, entry in enumerate(image.mpinfo[0xB002]):
        kind = entry["Attribute"]["MPType"]
        if kind.startswith("Multi-Frame"):
            return True
        if number == 0 or kind.startswith("Large Thumbnail"):
            continue
        try:
            image.seek(number)
        except Exception:  # an editor has removed the picture but not its entry
            continue
        if image.width * image.height >= pixels:
            return True
    return False


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(_COMPRESSION) in _LOSSY_COMPRESSIONS
    if image.format == "WEBP":
        return any(
            kind == b"VP8 " or body[16:20] in (b"VP8 ", b"ALPH") for kind, body in webp_chunks(data)
        )
    if image.format == "JPEG2000":
        stream = codestreams(data)[0]
        return stream[stream.find(_CODING_STYLE) + 13] == 0  # the wavelet is not reversible
    return image.format in ("JPEG", "MPO")
