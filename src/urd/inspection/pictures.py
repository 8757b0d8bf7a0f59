"""Pictures for people: heat-map overlays on a fixed colour scale, and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from urd.inspection.defects import Defect
from urd.inspection.legend import NUMBERED, Scale, draw_legend, font_of, heat_colours
from urd.system.files import write_atomically

MAX_SIDE = 1600
_LEAST_SIDE = 320  # smaller pictures are enlarged by a whole factor
_MOST_ENLARGED = 8
_OPACITY = 0.6
_GAP = 8
_ROI_COLOUR = (0, 229, 255)
_OUTSIDE = 0.55  # brightness outside of the region of interest
Points = Sequence[tuple[float, float]]


def overlay(
    image: Image.Image,
    anomaly_map: np.ndarray,
    scale: Scale,
    score: float,
    verdict: str | None = None,
    defects: Sequence[Defect] = (),
    width: int | None = None,
    *,
    roi: NDArray[np.bool_] | None = None,
    max_side: int = MAX_SIDE,
) -> Image.Image:
    """The image with its anomaly map over it, numbered defects, and a legend below.

    Tiny images are enlarged by a whole factor, so that the marks do not cover them. If the words
    of the legend need more width than the picture has, the picture is in the middle of a white
    ground.

    Args:
        scale: belongs to the model, so a colour means the same in all its pictures.
        defects: in pixels of the original, the highest peak first.
        width: of the original, if the image is a smaller copy.
        roi: (h, w) bool, the inspected part; it gets a line, and what is outside is darker.
        max_side: pixels of the longer side of larger images; 0 keeps every pixel.
    """
    original = width or image.width
    picture = heat_picture(image, anomaly_map, scale, defects, original, roi, max_side)
    legend = draw_legend(picture.width, scale, score, verdict, defects)
    whole = Image.new("RGB", (legend.width, picture.height + legend.height), "white")
    whole.paste(picture, ((legend.width - picture.width) // 2, 0))
    whole.paste(legend, (0, picture.height))
    return whole


def heat_picture(
    image: Image.Image,
    anomaly_map: np.ndarray,
    scale: Scale,
    defects: Sequence[Defect] = (),
    width: int | None = None,
    roi: NDArray[np.bool_] | None = None,
    max_side: int = MAX_SIDE,
) -> Image.Image:
    """`overlay` without its legend."""
    shown = _enlarged(reduced(image, max_side) if max_side else image)
    factor = shown.width / (width or image.width)
    picture = blend(np.asarray(shown), anomaly_map, (scale.low, scale.high))
    if roi is not None:
        _draw_roi(picture, roi)
    _draw_lines(picture, [[(x * factor, y * factor) for x, y in d.contour] for d in defects])
    drawn = Image.fromarray(picture)
    _draw_numbers(drawn, defects, factor)
    return drawn


def _enlarged(image: Image.Image) -> Image.Image:
    """A tiny image enlarged by a whole factor, each pixel a square; others are unchanged."""
    factor = min(_MOST_ENLARGED, _LEAST_SIDE // max(image.size))
    if factor < 2:
        return image
    size = (factor * image.width, factor * image.height)
    return image.resize(size, Image.Resampling.NEAREST)


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
    return cv2.blendLinear(np.ascontiguousarray(image), heat_colours(level), 1 - opacity, opacity)


def heat_layer(anomaly_map: np.ndarray, heat_range: tuple[float, float]) -> Image.Image:
    """The colours of `blend` alone, RGBA at the size of the map, to lay over an image."""
    level = _level(anomaly_map.astype(np.float32), heat_range)
    alpha = (255 * _opacities()[level]).round().astype(np.uint8)
    return Image.fromarray(np.dstack([heat_colours(level), alpha]))


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
    draw.text((_GAP, 6), title, "black", font_of(17))
    for column, name in enumerate(columns):
        draw.text((label + column * (width + _GAP), top - 26), name, "#444444", font_of(15))
    for row, (name, pictures) in enumerate(rows):
        y = top + row * (height + _GAP)
        draw.text((_GAP, y + height // 2 - 10), name.replace("_", " "), "black", font_of(15))
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (label + column * (width + _GAP), y))
    return sheet


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG atomically."""
    content = png_of(picture)
    write_atomically(path, lambda new: new.write_bytes(content), one_of_many=True)


def png_of(picture: Image.Image) -> bytes:
    """A PNG. OpenCV encodes twice as fast as Pillow, to about the same size."""
    bgr = cv2.cvtColor(np.asarray(picture.convert("RGB")), cv2.COLOR_RGB2BGR)
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    _, content = cv2.imencode(".png", bgr, fast)
    return content.tobytes()


def outlines(mask: NDArray[np.bool_], size: tuple[int, int]) -> list[Points]:
    """The outlines of what a mask (h, w) marks, in pixels of an image of `size` (H, W)."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    y, x = (large / small for large, small in zip(size, mask.shape, strict=True))
    return [
        [((p + 0.5) * x, (q + 0.5) * y) for p, q in points[:, 0, :].tolist()] for points in found
    ]


def _draw_roi(picture: np.ndarray, roi: NDArray[np.bool_]) -> None:
    """Darken what is outside of the region of interest, and draw its edge."""
    height, width = picture.shape[:2]
    soft = cv2.resize(roi.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    dark = (picture * np.float32(_OUTSIDE)).astype(np.uint8)
    outside = soft < 0.5
    picture[outside] = dark[outside]
    _draw_lines(picture, outlines(~outside, (height, width)), _ROI_COLOUR)


def _draw_lines(
    picture: np.ndarray, lines: Sequence[Points], colour: tuple[int, int, int] = (255, 255, 255)
) -> None:
    """Draw closed lines on wider black lines, so that they are visible on every colour."""
    height, width = picture.shape[:2]
    thin = max(1, round((height * width) ** 0.5 / 600))
    points = [np.round(np.array(line) * 16).astype(np.int32) for line in lines]
    for paint, thickness in (((0, 0, 0), 3 * thin), (colour, thin)):
        cv2.polylines(picture, points, True, paint, thickness, cv2.LINE_AA, shift=4)


def _draw_numbers(picture: Image.Image, defects: Sequence[Defect], factor: float) -> None:
    """The number of each defect at the upper left of its outline, inside of the picture."""
    font = font_of(max(12, round(max(picture.size) / 90)))
    draw = ImageDraw.Draw(picture)
    for number, defect in enumerate(defects[:NUMBERED], start=1):
        text = str(number)
        left, top, right, bottom = draw.textbbox((0, 0), text, font)
        wide, high = right - left + 6, bottom - top + 6
        x = max(0.0, min(defect.corner[0] * factor - wide - 2, picture.width - wide))
        y = max(0.0, min(defect.corner[1] * factor - high - 2, picture.height - high))
        draw.rectangle((x, y, x + wide, y + high), "black")
        draw.text((x + 3 - left, y + 3 - top), text, "white", font)
