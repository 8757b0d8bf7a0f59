"""Report what a data folder holds and what is wrong with it, without training."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from urd.data.advice import Seen, suggestions
from urd.data.decoding import marked, open_mask
from urd.data.exif import camera_of
from urd.data.image_files import DEFAULT_READING, Reading, open_picture, refuse_small
from urd.data.layouts import DataSet, Sample, survey
from urd.data.lookalikes import SIDE, small_picture
from urd.data.picture import WHITE_LEVEL, UnreadableImage
from urd.system.progress import track

_CAMERA_BITS = (8, 10, 12, 14)


@dataclass
class Report:
    """Counts, and problems by kind; if `problems` is empty, nothing is wrong.

    Attributes:
        folders: number of used images in each folder.
        links: linked folders that are followed, and their targets.
        passed_over: a line for each kind of skipped file or folder.
        cameras: number of images of each camera, as far as EXIF says it.
        suggestions: a line for each thing that is not wrong but could be better.
    """

    root: str
    layout: str
    counts: dict[str, int]
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    cameras: dict[str, int] = field(default_factory=dict)
    suggestions: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "ok": not self.problems}


def check(data: str | Path, reading: Reading = DEFAULT_READING) -> Report:
    """Read every file of DATA and report problems.

    Problems of masks: unreadable, of another size than the image, empty, without an image, or for
    two images. Doubtful masks are problems, too: those that mark over half of an image, and those
    where transparency decides what they mark.

    Problems of images: unreadable, not used, defective without a mask, there twice, or in both the
    training and the test set (a leak: results look better than they are); and 16-bit images that
    look dark because the camera gives fewer bits.

    Suggestions: see `urd.data.advice`. They need 1.2 KB of memory for each image.
    """
    data_set = survey(data)
    report = Report(str(data_set.root), data_set.layout, _counts(data_set))
    problems: defaultdict[str, list[str]] = defaultdict(list)
    seen: list[Seen] = []
    brightest: int | None = None
    samples = [("train", s) for s in data_set.train]
    samples += [("validation", s) for s in data_set.validation]
    samples += [("test", s) for s in data_set.test]
    small = np.empty((len(samples), SIDE * SIDE), np.uint8)
    for part, sample in track(samples, "Checking", len(samples)):
        try:
            picture = open_picture(sample.path, reading)
            refuse_small(picture)
            image = picture.rgb(reading.white_level)
        except UnreadableImage as error:
            problems["unreadable"].append(f"{error.path}: {error.reason}")
            continue
        if picture.brightest is not None:
            brightest = max(brightest or 0, picture.brightest)
        # A digest of the pixels, not of the file: it also finds a copy in another format.
        digest = hashlib.sha256(image.tobytes() + repr(image.size).encode()).hexdigest()
        small[len(seen)] = small_picture(image)
        mode, camera = picture.image.mode, camera_of(picture.image)
        seen.append(Seen(sample.path, part, image.size, mode, camera, digest))
        _check_masks(sample, (image.height, image.width), reading, problems)
    problems["white_level"] += _white_level_hint(brightest, reading)
    _find_copies(seen, problems)
    problems["not_used"] += [
        f"{count} in {folder}" for folder, count in data_set.in_folders(data_set.unused).items()
    ]
    problems["empty_folder"] += map(str, data_set.empty)
    problems["disputed_mask"] += data_set.disputed_masks
    problems["mask_without_image"] += map(str, data_set.orphan_masks)
    problems["defective_without_mask"] += map(str, data_set.missing_masks)
    report.folders = data_set.in_folders([sample.path for _, sample in samples])
    report.links = [f"{link} -> {link.resolve()}" for link in data_set.found.links]
    report.passed_over = data_set.found.passed_over()
    report.sizes = _counted(f"{image.size[0]}x{image.size[1]}" for image in seen)
    report.modes = _counted(image.mode for image in seen)
    report.cameras = _counted(image.camera for image in seen if image.camera)
    report.suggestions = list(suggestions(seen, small[: len(seen)]))
    report.problems = {kind: entries for kind, entries in problems.items() if entries}
    return report


def _counted(values: Iterable[str]) -> dict[str, int]:
    """The number of each value, the most frequent first."""
    return dict(Counter(values).most_common())


def _counts(data_set: DataSet) -> dict[str, int]:
    counts = Counter({"train/good": len(data_set.train)})
    if data_set.validation:
        counts["validation/good"] = len(data_set.validation)
    counts.update(f"test/{sample.defect}" for sample in data_set.test)
    for folder, count in data_set.in_folders(data_set.unlabelled).items():
        counts[f"{folder} (no labels, not used)"] = count
    return dict(counts)


def _check_masks(
    sample: Sample,
    size: tuple[int, int],
    reading: Reading,
    problems: defaultdict[str, list[str]],
) -> None:
    for mask in sample.masks:
        try:
            picture = open_mask(mask, reading)
            marks = marked(picture)
        except UnreadableImage as error:
            problems["unreadable"].append(f"{error.path}: {error.reason}")
            continue
        if marks.shape != size:
            problems["mask_size"].append(
                f"{mask} is {marks.shape[1]}x{marks.shape[0]}, its image {size[1]}x{size[0]}"
            )
        if marks.any() != sample.defective:
            kind = "empty_mask" if sample.defective else "marked_good_image"
            problems[kind].append(str(mask))
        if marks.mean() > 0.5:
            problems["mask_over_half"].append(f"{mask} marks {100 * marks.mean():.0f} %")
        if picture.transparent:
            problems["mask_transparency"].append(str(mask))


def _white_level_hint(brightest: int | None, reading: Reading) -> list[str]:
    """A hint if the brightest 16-bit value of the data set leaves the upper bits empty."""
    if brightest is not None and brightest > reading.white_level:
        return [f"values up to {brightest} are above --white-level and are shown as white"]
    if brightest is None or reading.white_level != WHITE_LEVEL:
        return []
    bits = next((bits for bits in _CAMERA_BITS if brightest < 2**bits), None)
    if bits is None:
        return []
    return [
        f"no value is above {brightest}: if the camera gives {bits} bits, pass "
        f"--white-level {2**bits - 1}; without it the images look dark"
    ]


def _find_copies(seen: Sequence[Seen], problems: defaultdict[str, list[str]]) -> None:
    same: defaultdict[str, list[Seen]] = defaultdict(list)
    for image in seen:
        same[image.digest].append(image)
    for copies in same.values():
        if len(copies) < 2:
            continue
        names = " = ".join(str(image.path) for image in copies)
        in_both = len({image.part for image in copies}) > 1
        problems["train_test_leak" if in_both else "duplicate"].append(names)
