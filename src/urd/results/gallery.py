"""The pictures of a report: which images are shown, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from urd.data import Reading, Roi, read_layout, read_masks
from urd.detector import Detector
from urd.errors import UrdError, first_line
from urd.evaluation.records import JudgedImage
from urd.inspection.calibration import Thresholds
from urd.inspection.prediction import Failure
from urd.results.shots import Shot, shot_of
from urd.system.files import printable
from urd.system.progress import track
from urd.training.schema import GoodImageDistance

MOST = 60  # pictures of a gallery; the names of the other images follow
LARGE, LARGE_SIDE, SIDE = 12, 1280, 640  # the first pictures are larger, in pixels
EXAMPLES = 6  # pictures of a gallery that shows no mistakes
_MOST_NAMES = 500


@dataclass(frozen=True)
class Gallery:
    """Pictures under one heading.

    Attributes:
        shots: the worst first. others: names of images that have no picture here.
        count: of all such images.
    """

    title: str
    about: str
    shots: list[Shot]
    others: list[str]
    count: int


@dataclass(frozen=True)
class _Choice:
    """The images of a gallery: mistakes, of which none is left out, or examples."""

    title: str
    about: str
    images: Sequence[JudgedImage]
    examples: bool = False

    @property
    def pictured(self) -> Sequence[JudgedImage]:
        return self.images[: EXAMPLES if self.examples else MOST]

    @property
    def named(self) -> Sequence[JudgedImage]:
        return () if self.examples else self.images[MOST:][:_MOST_NAMES]


class Masks:
    """What people have marked on the test images of DATA, if it is still there."""

    def __init__(self, data: str, reading: Reading) -> None:
        self.reading = reading
        try:
            samples = read_layout(data).test
        except UrdError:
            samples = []
        self._files = {printable(sample.path.absolute()): sample.masks for sample in samples}

    def of(self, image: JudgedImage) -> tuple[Roi | None, str]:
        """The mask of an image (H, W), and a remark if it cannot be read."""
        files = self._files.get(image.path)
        try:
            return (read_masks(files, self.reading), "") if files else (None, "")
        except UrdError as error:
            return None, f"no outline of its mask: {first_line(error)}"


def galleries(detector: Detector, images: Sequence[JudgedImage], masks: Masks) -> Iterator[Gallery]:
    """Every mistake, the worst first, then borderline cases and the clearest finds.

    Args:
        images: images that are not judged are left out.
    """
    images = [image for image in images if image.judged]
    good = sorted((image for image in images if image.good), key=lambda image: -_score(image))
    defective = sorted((image for image in images if not image.good), key=_score)
    thresholds = detector.thresholds()
    if thresholds is None or any(image.verdict is None for image in images):
        choices = _without_thresholds(good, defective)
    else:
        choices = _with_thresholds(good, defective, thresholds)
    for choice in choices:
        yield _gallery(detector, choice, masks)


def _with_thresholds(
    good: list[JudgedImage], defective: list[JudgedImage], thresholds: Thresholds
) -> list[_Choice]:
    def among(images: list[JudgedImage], verdict: str) -> list[JudgedImage]:
        return [image for image in images if image.verdict == verdict]

    found = [image for image in reversed(defective) if image.verdict != "OK"]
    at_its_place = [image for image in found if image.on_defect is not False]
    right = [*among(good, "OK"), *at_its_place]
    limits = (thresholds.review.threshold, thresholds.reject.threshold)
    near = sorted(right, key=lambda image: min(abs(_score(image) - limit) for limit in limits))
    return [
        _Choice(
            "Missed defects",
            "Defective images with the verdict OK. The dashed line goes around the mask.",
            among(defective, "OK"),
        ),
        *_elsewhere(found),
        _Choice("Good parts rejected", "Good images with the verdict NG.", among(good, "NG")),
        _Choice(
            "Good parts to review", "Good images with the verdict REVIEW.", among(good, "REVIEW")
        ),
        _Choice(
            "Borderline",
            "Images that are judged right, with the scores nearest to a threshold.",
            near[:EXAMPLES],
            examples=True,
        ),
        _Choice(
            "Detected defects",
            "Defective images with the verdict REVIEW or NG, the highest scores first.",
            at_its_place,
            examples=True,
        ),
    ]


def _elsewhere(found: list[JudgedImage]) -> Iterator[_Choice]:
    """Right verdicts for a wrong reason; nothing if no mask tells."""
    if any(image.on_defect is not None for image in found):
        yield _Choice(
            "Outlined elsewhere",
            "Defective images with the verdict REVIEW or NG on which no outline touches the mask. "
            "The dashed line goes around the mask. If outlines lie where no part is, --roi and "
            "--ignore of urd fit leave such places out.",
            [image for image in found if image.on_defect is False],
        )


def _without_thresholds(good: list[JudgedImage], defective: list[JudgedImage]) -> list[_Choice]:
    about = "Not calibrated: no thresholds."
    return [
        _Choice("Good images with the highest scores", about, good, True),
        _Choice("Defective images with the lowest scores", about, defective, True),
    ]


def unlike_others(detector: Detector, images: Sequence[GoodImageDistance]) -> Gallery:
    """The training images that are least like the others, the least alike first."""
    usual = images[len(images) // 2].distance
    title = "Training images least like the others"
    shown = [JudgedImage(i.path, "train", i.distance, None) for i in images[:EXAMPLES]]
    about = {i.path: f"distance {i.distance:.3g}, usual is {usual:.3g}" for i in images[:EXAMPLES]}
    shots = [
        replace(shot, about=about[image.path], verdict=None, score=None)
        for image, shot in zip(shown, _shots(detector, title, shown, None), strict=True)
    ]
    return Gallery(
        title,
        "Look whether these parts are good. The distance is that to the features of all others.",
        shots,
        [],
        len(images),
    )


def _gallery(detector: Detector, choice: _Choice, masks: Masks) -> Gallery:
    shots = list(_shots(detector, choice.title, choice.pictured, masks))
    names = [f"{_name(image)}, score {_score(image):.4g}" for image in choice.named]
    return Gallery(choice.title, choice.about, shots, names, len(choice.images))


def _score(image: JudgedImage) -> float:
    """The score of a judged image."""
    assert image.score is not None
    return image.score


def _name(image: JudgedImage) -> str:
    return f"{image.defect}/{Path(image.path).name}"


def _shots(
    detector: Detector, title: str, images: Sequence[JudgedImage], masks: Masks | None
) -> Iterator[Shot]:
    """Judge the images again, because an evaluation keeps no maps.

    Name, verdict and score are those of the evaluation. The progress has the title.
    """
    try:
        judged = detector.predict_many([Path(i.path) for i in images], picture_side=LARGE_SIDE)
        results = track(judged, title, len(images))
    except UrdError as error:  # for example, each image has a region and nobody gave them
        yield from (_missing(image, first_line(error)) for image in images)
        return
    for place, (image, result) in enumerate(zip(images, results, strict=True)):
        if isinstance(result, Failure):
            yield _missing(image, result.reason)
            continue
        assert result.picture is not None
        mask, about = masks.of(image) if masks else (None, "")
        side = LARGE_SIDE if place < LARGE else SIDE
        shot = shot_of(result, result.picture, side, name=_name(image), about=about, mask=mask)
        yield replace(shot, verdict=image.verdict, score=image.score)


def _missing(image: JudgedImage, reason: str) -> Shot:
    text = f"The image cannot be shown: {reason}."
    return Shot(_name(image), image.verdict, image.score, missing=text)
