"""Compare two detectors on one labelled test set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from urd.data import DEFAULT_READING, Reading, read_layout
from urd.detector import Detector
from urd.errors import UrdError, UsageError
from urd.evaluation.evaluate import OnDisk, kept_on_disk, refuse_unusable
from urd.evaluation.map_files import MapFile, as_test_images, find_maps
from urd.evaluation.maps_on_disk import MapsOnDisk, maps_on_disk
from urd.evaluation.records import JudgedImage
from urd.evaluation.score_files import read_scores
from urd.metrics import TestImage
from urd.metrics.comparison import Difference, compare
from urd.system.progress import track


@dataclass(frozen=True)
class OtherVerdict:
    """An image that the two detectors judge differently."""

    path: str
    defect: str
    a: str
    b: str


@dataclass(frozen=True)
class Comparison:
    """What `urd compare` says.

    Attributes:
        images: how many were compared.
        maps: the size at which maps were compared, in words.
        resamples: how many the intervals come from; 0: there are no intervals.
        verdicts: the images with other verdicts; `None`: a side has no thresholds.
    """

    images: int
    maps: str
    resamples: int
    differences: list[Difference]
    verdicts: list[OtherVerdict] | None

    @property
    def protocol(self) -> str:
        """How the two sides were compared, in one line."""
        how = f"{self.resamples} paired bootstrap resamples, 95 % intervals"
        return f"{self.images} images; {self.maps}; {how if self.resamples else 'no intervals'}"

    def to_dict(self) -> dict[str, Any]:
        rows = [
            {**asdict(d), "difference": d.difference, "better": d.better} for d in self.differences
        ]
        verdicts = None if self.verdicts is None else [asdict(v) for v in self.verdicts]
        return {
            "images": self.images,
            "protocol": self.protocol,
            "metrics": rows,
            "other_verdicts": verdicts,
        }


def compare_detectors(
    a: Detector, b: Detector, data: str | Path, batch_size: int = 8, resamples: int = 1000
) -> Comparison:
    """Judge the test images of DATA with both detectors.

    Raises:
        UsageError: there are no labelled test images.
        UrdError: a detector cannot judge an image, so the figures would not be of the same images.
    """
    data_set = read_layout(data)
    refuse_unusable(data_set)
    paths = [sample.path for sample in data_set.test]

    def judged(detector: Detector, name: str, maps: MapsOnDisk) -> OnDisk:
        predicted = detector.predict_many(paths, batch_size)
        results = track(predicted, f"Judging with {name}", len(paths))
        size = detector.config.image_size
        found = kept_on_disk(data_set, results, size, maps, detector.reading)
        if found.failures:
            first = found.failures[0]
            raise UrdError(
                f"{name} cannot judge {len(found.failures)} of {len(paths)} images, first "
                f"{first.path}: {first.reason}"
            )
        return found

    with maps_on_disk() as maps:
        first, second = judged(a, "A", maps), judged(b, "B", maps)
        found = compare(first.test, second.test, has_masks=data_set.has_masks, resamples=resamples)
    verdicts = _other_verdicts(first.images, second.images)
    return _comparison(len(paths), _sizes(a, b), resamples, found, verdicts)


def compare_maps(
    a: Path,
    b: Path,
    masks: Path,
    *,
    scores: tuple[Path, Path] | None = None,
    resize: bool = False,
    resamples: int = 1000,
    reading: Reading = DEFAULT_READING,
) -> Comparison:
    """Compare two folders of anomaly maps of the same images, as `urd metrics` reads them.

    Args:
        scores: a file of image scores for each side; `None`: the maximum of each map.

    Raises:
        UsageError: an image has a map in one folder only, or as `find_maps` and `read_scores`.
    """
    named = [{file.name: file for file in find_maps(side, masks, reading)} for side in (a, b)]
    only = sorted(named[0].keys() ^ named[1].keys())
    if only:
        raise UsageError(
            f"{len(only)} images have a map in one folder only, first {only[0]}: compare the maps "
            "of the same images"
        )
    of_a, of_b = (
        _with_scores([side[name] for name in sorted(side)], file, resize, reading)
        for side, file in zip(named, scores or (None, None), strict=True)
    )
    maps = "maps resized to their masks" if resize else "maps in the size of their files"
    if scores is not None:
        maps += f"; image scores from {scores[0].name} and {scores[1].name}"
    found = compare(of_a, of_b, resamples=resamples)
    return _comparison(len(of_a), maps, resamples, found, None)


def _with_scores(
    files: list[MapFile], scores: Path | None, resize: bool, reading: Reading
) -> list[TestImage]:
    given = None if scores is None else read_scores(scores, files)
    return as_test_images(files, resize=resize, reading=reading, scores=given)


def _comparison(
    images: int,
    maps: str,
    resamples: int,
    found: list[Difference],
    verdicts: list[OtherVerdict] | None,
) -> Comparison:
    """The comparison; a class with one image has no intervals, whatever was asked for."""
    with_intervals = any(difference.low is not None for difference in found)
    return Comparison(images, maps, resamples if with_intervals else 0, found, verdicts)


def _sizes(a: Detector, b: Detector) -> str:
    (first, second) = (f"{d.config.image_size[1]}x{d.config.image_size[0]} px" for d in (a, b))
    return f"maps at {first}" if first == second else f"maps of A at {first}, of B at {second}"


def _other_verdicts(a: list[JudgedImage], b: list[JudgedImage]) -> list[OtherVerdict] | None:
    if any(image.verdict is None for image in [*a, *b]):
        return None
    pairs = zip(a, b, strict=True)
    return [
        OtherVerdict(x.path, x.defect, str(x.verdict), str(y.verdict))
        for x, y in pairs
        if x.verdict != y.verdict
    ]
