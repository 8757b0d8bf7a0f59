"""The legend below an overlay: verdict, score, colour bar with its marks, and sizes of defects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from urd.inspection.colours import ON_LIGHT
from urd.inspection.defects import Defect

LEAST_WIDTH = 240  # pixels that the words of a legend need
NUMBERED = 20  # defects that get a number; the weaker ones get an outline only
_LISTED_LINES = 3
_PADDING, _QUIET = 6, "#444444"
_LONGEST_BAR = 32  # heights of a line
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Scale:
    """The colours of a heat map.

    Attributes:
        low, high: the anomaly values of the first and the last colour.
        review, reject: the values that only the wanted shares of good images reach, for REVIEW and
            for NG; `None` without thresholds.
    """

    low: float
    high: float
    review: float | None = None
    reject: float | None = None

    def place(self, value: float) -> float:
        """Where a value lies on the colour bar, from 0 to 1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def marks(self) -> list[tuple[str, float]]:
        """Names and values of the marks; of two equal ones, NG alone: there is no REVIEW."""
        review = None if self.review == self.reject else self.review
        named = (("REVIEW", review), ("NG", self.reject))
        return [(name, value) for name, value in named if value is not None]


def size_of(defect: Defect) -> str:
    """The area of a defect, in words."""
    if defect.area_mm2 is not None:
        return f"{defect.area_mm2:.3g} mm2"
    return f"{defect.area:.0f} px"


def sizes(defects: Sequence[Defect], most: int = NUMBERED) -> list[str]:
    """Number and area of the first defects; the number of the others comes last."""
    named = [f"{n}: {size_of(defect)}" for n, defect in enumerate(defects[:most], start=1)]
    more = len(defects) - most
    return [*named, f"and {more} more"] if more > 0 else named


def draw_legend(
    width: int, scale: Scale, score: float, verdict: str | None, defects: Sequence[Defect] = ()
) -> Image.Image:
    """A legend of this width, at least `LEAST_WIDTH`; it is as high as its words need."""
    width = max(width, LEAST_WIDTH)
    font = font_of(max(13, min(64, width // 70)))
    line = round(1.5 * font.size) if isinstance(font, ImageFont.FreeTypeFont) else 18
    words = ["Areas, strongest first", *sizes(defects)]
    listed = _wrapped(words, width - 2 * _PADDING, font) if defects else []
    legend = Image.new("RGB", (width, 4 * line + line * len(listed) + _PADDING), "white")
    draw = ImageDraw.Draw(legend)
    start: float = _PADDING
    if verdict is not None:
        draw.text((start, _PADDING), verdict, ON_LIGHT[verdict], font, stroke_width=0.4)
        start += draw.textlength(verdict, font) + 10
    draw.text((start, _PADDING), f"score {score:.4g}", "black", font)
    _draw_bar(legend, draw, scale, line, font)
    for row, text in enumerate(listed):
        draw.text((_PADDING, 4 * line + row * line), text, "black", font)
    return legend


def _draw_bar(
    legend: Image.Image, draw: ImageDraw.ImageDraw, scale: Scale, line: int, font: Font
) -> None:
    """The names of the marks, below them the bar with the marks, below it the values of its ends.

    A mark beyond the last colour is drawn at the end of the bar, with a `>` before its value.
    """
    bar = min(legend.width - 2 * _PADDING, _LONGEST_BAR * line)
    top, height = 2 * line + 3, line - 7
    legend.paste(_ramp(bar, height), (_PADDING, top))
    low, high = f"{scale.low:.4g}", f"{scale.high:.4g}"
    draw.text((_PADDING, 3 * line - 2), low, _QUIET, font)
    right = _PADDING + bar
    draw.text((right - draw.textlength(high, font), 3 * line - 2), high, _QUIET, font)
    free: float = _PADDING  # where the next name may begin
    for name, value in scale.marks():
        at = _PADDING + scale.place(value) * (bar - 1)
        draw.line([(at, top - 3), (at, top + height + 2)], "black", max(2, line // 10))
        beyond = "> " if value > scale.high else ""
        text = f"{name} {beyond}{value:.4g}"
        length = draw.textlength(text, font)
        wanted = at - length - 2 if name == "REVIEW" else at + 2
        x = max(free, min(wanted, right - length))
        draw.text((x, line + 2), text, ON_LIGHT[name], font)
        free = x + length + 6


def _wrapped(words: Sequence[str], width: int, font: Font) -> list[str]:
    """The words in up to three lines; the last one says how many did not fit."""
    lines = [""]
    for index, word in enumerate(words):
        longer = f"{lines[-1]}   {word}" if lines[-1] else word
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < _LISTED_LINES:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} ... ({len(words) - index} more)"
            break
    return lines


@lru_cache(maxsize=32)
def _ramp(width: int, height: int) -> Image.Image:
    """The colour bar."""
    levels = np.linspace(0, 255, width, dtype=np.float32).astype(np.uint8)
    return Image.fromarray(heat_colours(levels[None].repeat(height, 0)))


def heat_colours(level: np.ndarray) -> np.ndarray:
    """The colour map Turbo (Mikhailov, 2019) in RGB: 0 is its blue end, 255 its red end."""
    return cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)


@lru_cache(maxsize=16)
def font_of(size: int) -> Font:
    return ImageFont.load_default(size)
