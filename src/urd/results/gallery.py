"""The pictures of a report: the selected images and how they are shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from urd.data import read_rgb
from urd.detector import Detector
from urd.errors import UrdError
from urd.evaluation.records import JudgedImage
from urd.inspection.pictures import heat_picture
from urd.inspection.prediction import Failure
from urd.training.schema import GoodImageDistance

_EACH = 8
_SIDE = 320
_QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """One image of a gallery: `shown` and `marked` are data URIs, or `missing` is the reason."""

    name: str
    verdict: str | None
    score: float
    defects: str = ""
    shown: str = ""
    marked: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Gallery:
    title: str
    about: str
    pictures: list[Picture]
    count: int


def galleries(detector: Detector, images: Sequence[JudgedImage]) -> list[Gallery]:
    """False rejects and misses, the worst first, and the clearest finds.

    Args:
        images: images that are not judged are left out.
    """
    images = [image for image in images if image.judged]
    good = sorted((image for image in images if image.good), key=lambda image: -_score(image))
    defective = sorted((image for image in images if not image.good), key=_score)
    if all(image.verdict is None for image in images):
        return [
            _gallery(
                detector,
                "Good images with the highest scores",
                "Not calibrated: no thresholds.",
                good,
            ),
            _gallery(
                detector,
                "Defective images with the lowest scores",
                "Not calibrated: no thresholds.",
                defective,
            ),
        ]
    rejected = [image for image in good if image.verdict != "OK"]
    missed = [image for image in defective if image.verdict == "OK"]
    found = [image for image in reversed(defective) if image.verdict != "OK"]
    return [
        _gallery(detector, "False rejects", "Good images with the verdict REVIEW or NG.", rejected),
        _gallery(detector, "Misses", "Defective images with the verdict OK.", missed),
        _gallery(detector, "Finds", "Defective images with the verdict REVIEW or NG.", found),
    ]


def unlike_others(detector: Detector, images: Sequence[GoodImageDistance]) -> Gallery:
    """The training images that are least like the others, the least alike first."""
    usual = images[len(images) // 2].distance
    pictures = [
        replace(
            _picture(detector, JudgedImage(image.path, "train", image.distance, None)),
            defects=f"distance {image.distance:.3g}, usual is {usual:.3g}",
        )
        for image in images[:_EACH]
    ]
    return Gallery(
        "Training images least like the others",
        "Look whether these parts are good. The distance is that to the features of all others.",
        pictures,
        len(images),
    )


def _gallery(detector: Detector, title: str, about: str, images: Sequence[JudgedImage]) -> Gallery:
    pictures = [_picture(detector, image) for image in images[:_EACH]]
    return Gallery(title, about, pictures, len(images))


def _score(image: JudgedImage) -> float:
    """The score of a judged image."""
    assert image.score is not None
    return image.score


def _picture(detector: Detector, image: JudgedImage) -> Picture:
    path = Path(image.path)
    about = Picture(f"{image.defect}/{path.name}", image.verdict, _score(image))
    try:
        prediction = next(detector.predict_many([path]))
        if isinstance(prediction, Failure):
            return replace(about, missing=f"The image cannot be shown: {prediction.reason}.")
        original = read_rgb(path, reading=detector.reading)
    except UrdError as error:
        return replace(about, missing=f"The image cannot be shown: {error}.")
    outlines = [defect.contour for defect in prediction.defects]
    marked = heat_picture(original, prediction.anomaly_map, detector.heat_range(), outlines, _SIDE)
    original.thumbnail((_SIDE, _SIDE))
    rois = [f"{defect.area:.0f} px" for defect in prediction.defects[:3]]
    more = len(prediction.defects) - len(rois)
    text = ", ".join(rois) + (f" and {more} more" if more else "")
    return replace(about, defects=text, shown=_uri(original), marked=_uri(marked))


def _uri(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
