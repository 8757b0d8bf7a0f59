"""Pictures for people: heat-map overlays on a fixed colour scale, and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from urd.system.files import write_atomically

MAX_SIDE = 1600
_BAR = 28
_OPACITY = 0.6
_GAP = 8
_VERDICT_COLOURS = {"OK": "#1a7f37", "REVIEW": "#9a6700", "NG": "#cf222e"}


def overlay(
    image: Image.Image,
    anomaly_map: np.ndarray,
    heat_range: tuple[float, float],
    score: float,
    verdict: str | None = None,
    outlines: Sequence[Sequence[tuple[float, float]]] = (),
    width: int | None = None,
) -> Image.Image:
    """The image with its anomaly map over it, outlines of defects, and a legend below.

    `heat_range` holds the anomaly values of the first and the last colour. It belongs to the model,
    so a colour means the same in all its pictures. Images over 1600 px are reduced. `outlines` are
    in pixels of the image. If the image is a smaller copy, `width` is the width of the original.
    """
    picture = np.asarray(heat_picture(image, anomaly_map, heat_range, outlines, MAX_SIDE, width))
    legend = _legend(picture.shape[1], heat_range, score, verdict)
    return Image.fromarray(np.concatenate([picture, np.asarray(legend)]))


def heat_picture(
    image: Image.Image,
    anomaly_map: np.ndarray,
    heat_range: tuple[float, float],
    outlines: Sequence[Sequence[tuple[float, float]]],
    max_side: int,
    width: int | None = None,
) -> Image.Image:
    """`overlay` without its legend, reduced to `max_side` pixels if it is larger."""
    shown = reduced(image, max_side)
    picture = blend(np.asarray(shown), anomaly_map, heat_range)
    _outline(picture, outlines, shown.width / (width or image.width))
    return Image.fromarray(picture)


def reduced(image: Image.Image, max_side: int) -> Image.Image:
    """The image, or a copy with `max_side` pixels on the longer side if the image is larger."""
    if max(image.size) <= max_side:
        return image
    smaller = image.copy()
    smaller.thumbnail((max_side, max_side))
    return smaller


def blend(
    image: np.ndarray, anomaly_map: np.ndarray, heat_range: tuple[float, float]
) -> np.ndarray:
    """(H, W, 3) uint8: colour over the image, more opaque where it is more anomalous."""
    height, width = image.shape[:2]
    level = _level(cv2.resize(anomaly_map.astype(np.float32), (width, height)), heat_range)
    opacity = _opacities()[level]
    return cv2.blendLinear(np.ascontiguousarray(image), _colours(level), 1 - opacity, opacity)


def heat_layer(anomaly_map: np.ndarray, heat_range: tuple[float, float]) -> Image.Image:
    """The colours of `blend` alone, RGBA at the size of the map, to lay over an image."""
    level = _level(anomaly_map.astype(np.float32), heat_range)
    alpha = (255 * _opacities()[level]).round().astype(np.uint8)
    return Image.fromarray(np.dstack([_colours(level), alpha]))


def _level(anomaly_map: np.ndarray, heat_range: tuple[float, float]) -> np.ndarray:
    low, high = heat_range
    return ((anomaly_map - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _opacities() -> np.ndarray:
    """The opacity of each of the 256 heat levels."""
    return _OPACITY * np.minimum(1, 2 * np.linspace(0, 1, 256, dtype=np.float32))


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]], columns: Sequence[str], title: str
) -> Image.Image:
    """A grid of (H, W, 3) uint8 pictures of one size, with names of rows and columns."""
    height, width = rows[0][1][0].shape[:2]
    label, top = 120, 64
    sheet = Image.new(
        "RGB",
        (label + len(columns) * (width + _GAP), top + len(rows) * (height + _GAP)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 6), title, "black", _font(17))
    for column, name in enumerate(columns):
        draw.text((label + column * (width + _GAP), top - 26), name, "#444444", _font(15))
    for row, (name, pictures) in enumerate(rows):
        y = top + row * (height + _GAP)
        draw.text((_GAP, y + height // 2 - 10), name.replace("_", " "), "black", _font(15))
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (label + column * (width + _GAP), y))
    return sheet


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG atomically. OpenCV encodes twice as fast as Pillow, to about the same size."""
    bgr = cv2.cvtColor(np.asarray(picture.convert("RGB")), cv2.COLOR_RGB2BGR)
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    _, content = cv2.imencode(".png", bgr, fast)
    write_atomically(path, lambda new: new.write_bytes(content.tobytes()), one_of_many=True)


def _outline(
    picture: np.ndarray, outlines: Sequence[Sequence[tuple[float, float]]], scale: float
) -> None:
    """Draw white lines on wider black lines, so that they are visible on every colour."""
    thin = max(1, round(max(picture.shape[:2]) / 500))
    points = [np.round(np.array(line) * scale * 16).astype(np.int32) for line in outlines]
    for colour, width in ((0, 3 * thin), (255, thin)):
        cv2.polylines(picture, points, True, (colour,) * 3, width, cv2.LINE_AA, shift=4)


def _legend(
    width: int, heat_range: tuple[float, float], score: float, verdict: str | None
) -> Image.Image:
    """Verdict, score, and a colour bar with its end values, as wide as the picture."""
    legend = Image.new("RGB", (width, _BAR), "white")
    draw = ImageDraw.Draw(legend)
    text = f"score {score:.3f}"
    start = 4
    if verdict is not None:
        draw.text((start, 6), verdict, _VERDICT_COLOURS[verdict], _font(14), stroke_width=0.4)
        start += int(draw.textlength(verdict, _font(14))) + 8
    draw.text((start, 6), text, "black", _font(14))
    left = start + int(draw.textlength(text, _font(14))) + 50
    right = width - 44
    if right - left < 16:
        return legend
    legend.paste(_ramp(right - left), (left, 8))
    draw.text((left - 38, 6), f"{heat_range[0]:.2f}", "#444444", _font(14))
    draw.text((right + 5, 6), f"{heat_range[1]:.2f}", "#444444", _font(14))
    return legend


@lru_cache(maxsize=32)
def _ramp(width: int) -> Image.Image:
    """The colour bar."""
    levels = np.linspace(0, 255, width, dtype=np.float32).astype(np.uint8)
    return Image.fromarray(_colours(levels[None].repeat(12, 0)))


def _colours(level: np.ndarray) -> np.ndarray:
    """The colour map Turbo (Mikhailov, 2019) in RGB: 0 is its blue end, 255 its red end."""
    return cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
