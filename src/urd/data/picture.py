"""A decoded picture, before it becomes an RGB image or a mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from urd.errors import NotJudged
from urd.system.threads import without_warnings

WHITE_LEVEL = 65535
_ORIENTATION = 0x0112
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # of TIFF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(NotJudged):
    """An image file that cannot be used."""


@dataclass(frozen=True)
class DeepSamples:
    """Samples of more than eight bits.

    Attributes:
        values: (H, W) grey, or (H, W, C) grey and alpha, RGB or RGBA.
        white: the value of white that the file states; `None`: the white level decides.
        opaque: the alpha of an opaque pixel.
        white_is_zero: 0 is shown as white.
    """

    values: NDArray[np.integer]
    white: int | None = None
    opaque: int = 65535
    white_is_zero: bool = False

    def eight_bit(self, white_level: int) -> Image.Image:
        """Scale to 8 bits by the fixed white, and clip there."""
        white = self.white or white_level
        values = self.values.astype(np.float32)
        if self.white_is_zero:
            values = white - values
        scale = np.full(values.shape[2:], 255 / white, np.float32)
        if values.ndim == 3 and values.shape[2] in (2, 4):
            scale[-1] = 255 / self.opaque
        return Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        path: for messages.
        image: as Pillow decodes it; if there are `deep` samples, it may hold only a part of them.
        deep: samples of more than eight bits; `None`: there are none.
        lossy: compression has changed the values, so small values may mean nothing.
    """

    path: Path
    image: Image.Image
    deep: DeepSamples | None = None
    lossy: bool = False

    def rgb(self, white_level: int = WHITE_LEVEL) -> Image.Image:
        """An 8-bit RGB image, upright, with transparency laid over white.

        Raises:
            UnreadableImage: the pixels are floating-point numbers.
        """
        image = self.image if self.deep is None else self.deep.eight_bit(white_level)
        if image.mode == "F":
            raise UnreadableImage(
                self.path, "floating-point pixels have no fixed white; save it as 8 or 16 bit"
            )
        image = self._upright(image)
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            return Image.alpha_composite(white, rgba).convert("RGB")
        return image.convert("RGB")

    def mask_values(self) -> NDArray[Any]:
        """Values (H, W) that decide what a mask marks: alpha if it varies, else brightest channel.

        Raises:
            UnreadableImage: floating-point pixels that are NaN or Inf, or where 0 is white.
        """
        colours, alpha = self._channels
        values = colours if alpha is None or not self.transparent else alpha
        if self.image.mode == "F" and (not np.isfinite(values).all() or white_is_zero(self.image)):
            raise UnreadableImage(
                self.path, "floating-point values without a fixed black; save the mask as 8 bit"
            )
        return values

    def upright(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Turn a mask made from `mask_values` as a viewer shows the picture."""
        return np.asarray(self._upright(Image.fromarray(mask.astype(np.uint8)))) > 0

    @property
    def transparent(self) -> bool:
        """Whether its transparency differs from pixel to pixel."""
        _, alpha = self._channels
        return alpha is not None and bool(alpha.min() != alpha.max())

    @property
    def brightest(self) -> int | None:
        """The largest deep sample if the file does not state its white; otherwise `None`."""
        deep = self.deep
        if deep is None or deep.white is not None or deep.white_is_zero:
            return None
        colours, _ = self._channels
        return int(colours.max())

    @cached_property
    def _channels(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """The brightest channel and alpha, each (H, W), not turned."""
        if self.deep is not None:
            return _channels_of_deep(self.deep)
        if self.image.has_transparency_data:
            rgba = np.asarray(self.image.convert("RGBA"))
            return rgba[..., :3].max(axis=2), rgba[..., 3]
        if self.image.mode in ("L", "F"):
            return np.asarray(self.image), None
        return np.asarray(self.image.convert("RGB")).max(axis=2), None

    def _upright(self, image: Image.Image) -> Image.Image:
        """Turn an image as EXIF says; ignore damaged EXIF."""
        try:
            with without_warnings():
                turn = _TURNS.get(int(self.image.getexif().get(_ORIENTATION, 1)))
        except Exception:  # damaged EXIF raises many types; the pixels are fine
            turn = None
        return image if turn is None else image.transpose(turn)


def white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF stores white as 0. Pillow inverts such files only up to eight bits."""
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _channels_of_deep(deep: DeepSamples) -> tuple[NDArray[Any], NDArray[Any] | None]:
    values = deep.values if deep.values.ndim == 3 else deep.values[..., None]
    colours, alpha = values, None
    if values.shape[2] in (2, 4):
        colours, alpha = values[..., :-1], values[..., -1]
    brightest = colours.max(axis=2)
    if deep.white_is_zero:
        brightest = np.iinfo(brightest.dtype).max - brightest
    return brightest if deep.white is None else brightest / np.float32(deep.white), alpha
