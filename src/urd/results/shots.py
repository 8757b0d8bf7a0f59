"""Pictures inside of pages: the image, its heat map and its outlines as layers to switch."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from urd.data import Roi
from urd.inspection.defects import Defect
from urd.inspection.legend import NUMBERED, Scale, sizes
from urd.inspection.pictures import Points, heat_layer, outlines, reduced
from urd.inspection.prediction import Prediction

_QUALITY, _HEAT_QUALITY = 82, 60
_HEAT_SIDE = 160  # maps are blurred, so more pixels would show nothing more
_WIDE = 1.7  # from this width / height on, the image lies above its heat map
_MASK_SIDE = 512  # an outline needs no more detail
_AROUND = 4  # pixels of that mask between what is marked and its outline
_DETAIL_ROOM, _LEAST_DETAIL, _MOST_DETAIL = 3.0, 0.2, 0.6  # shares of the image
_PLACES = 1  # decimal places of points, in pixels of the image


@dataclass(frozen=True)
class Number:
    """The number of a defect on a picture; `left` and `top` are percentages."""

    text: str
    left: float
    top: float


@dataclass(frozen=True)
class Shot:
    """One image of a page.

    Attributes:
        name: as the page shows it; `link`: a larger picture beside the page, or empty.
        about: what else the caption says.
        width, height: of the original, in pixels; they are the units of all paths.
        image, heat: data URIs; the heat map is stretched over the image.
        defects, mask, roi: outlines as paths of SVG, or empty.
        detail: left, top, width and height of the part around the mask, or else around the
            strongest defect; empty if it is no small part of the image.
        missing: why there is no picture; then only name, verdict, score and about are known.
    """

    name: str
    verdict: str | None
    score: float | None
    about: str = ""
    link: str = ""
    width: int = 1
    height: int = 1
    image: str = ""
    heat: str = ""
    defects: str = ""
    numbers: tuple[Number, ...] = ()
    sizes: tuple[str, ...] = ()
    mask: str = ""
    roi: str = ""
    detail: tuple[float, ...] = ()
    scale: Scale | None = None
    missing: str = ""

    @property
    def wide(self) -> bool:
        return self.width > _WIDE * self.height

    @property
    def detail_box(self) -> str:
        """The detail as the view box of an SVG; empty without a detail."""
        return " ".join(map(_short, self.detail)) if self.detail else ""


def shot_of(
    prediction: Prediction,
    picture: Image.Image,
    side: int,
    *,
    name: str,
    about: str = "",
    link: str = "",
    mask: Roi | None = None,
) -> Shot:
    """The layers of a prediction.

    Args:
        picture: the image, upright RGB, or a smaller copy.
        side: pixels of the longer side that the page keeps.
        mask: (H, W) bool, what a person has marked.
    """
    height, width = prediction.size
    scale = prediction.scale
    return Shot(
        name,
        prediction.verdict,
        prediction.score,
        about,
        link,
        width,
        height,
        _jpeg(reduced(picture, side)),
        _heat(prediction.anomaly_map, scale),
        _path([defect.contour for defect in prediction.defects]),
        _numbers(prediction.defects, prediction.size),
        tuple(sizes(prediction.defects)),
        "" if mask is None else _path(_outlines(mask, prediction.size, around=_AROUND)),
        _roi_path(prediction.roi, prediction.size),
        _detail(prediction, mask),
        scale,
    )


def _numbers(defects: Sequence[Defect], size: tuple[int, int]) -> tuple[Number, ...]:
    height, width = size
    return tuple(
        Number(
            str(number),
            round(100 * max(0.0, defect.corner[0]) / width, 2),
            round(100 * max(0.0, defect.corner[1]) / height, 2),
        )
        for number, defect in enumerate(defects[:NUMBERED], start=1)
    )


def _detail(prediction: Prediction, mask: Roi | None) -> tuple[float, ...]:
    """The part of the image to show larger, with the same shape as the image."""
    height, width = prediction.size
    if mask is not None and mask.any():
        ys, xs = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        y, x = height / mask.shape[0], width / mask.shape[1]
        left, top, right, bottom = xs[0] * x, ys[0] * y, (xs[-1] + 1) * x, (ys[-1] + 1) * y
    elif prediction.defects:
        left, top, right, bottom = prediction.defects[0].box
    else:
        return ()
    share = max((right - left) / width, (bottom - top) / height)
    share = max(_DETAIL_ROOM * share, _LEAST_DETAIL)
    if share > _MOST_DETAIL:
        return ()
    wide, high = share * width, share * height
    x = min(max(0.0, (left + right - wide) / 2), width - wide)
    y = min(max(0.0, (top + bottom - high) / 2), height - high)
    return (x, y, wide, high)


def _outlines(mask: Roi, size: tuple[int, int], around: int = 0) -> list[Points]:
    """The outlines of a mask, which is reduced before if it is large.

    `around` pixels are added at the edges, so that the line does not cover what is marked.
    """
    factor = _MASK_SIDE / max(mask.shape)
    if factor < 1:
        small = (max(1, round(mask.shape[1] * factor)), max(1, round(mask.shape[0] * factor)))
        # The mean of the pixels, and above it anything at all: the smallest defect stays.
        mask = cv2.resize(mask.astype(np.float32), small, interpolation=cv2.INTER_AREA) > 0
    if around:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * around + 1, 2 * around + 1))
        mask = cv2.dilate(mask.astype(np.uint8), disc) > 0
    return outlines(mask, size)


def _roi_path(roi: Roi | None, size: tuple[int, int]) -> str:
    """The whole image with the region cut out of it, for a fill by the even-odd rule."""
    if roi is None or roi.all():
        return ""
    height, width = size
    return f"M0 0H{width}V{height}H0Z" + _path(_outlines(roi, size))


def _path(lines: Sequence[Points]) -> str:
    return "".join(
        "M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in line) + "Z" for line in lines
    )


def _short(value: float) -> str:
    return f"{round(float(value), _PLACES):g}"


def _jpeg(picture: Image.Image) -> str:
    """As a data URI; OpenCV encodes several times as fast as Pillow."""
    bgr = cv2.cvtColor(np.asarray(picture.convert("RGB")), cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()


def _heat(anomaly_map: np.ndarray, scale: Scale) -> str:
    factor = min(1.0, _HEAT_SIDE / max(anomaly_map.shape))
    height, width = (max(1, round(side * factor)) for side in anomaly_map.shape)
    small = cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_AREA)
    content = io.BytesIO()
    layer = heat_layer(small, (scale.low, scale.high))
    layer.save(content, "WEBP", quality=_HEAT_QUALITY, alpha_quality=_HEAT_QUALITY, method=1)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
