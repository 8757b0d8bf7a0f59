"""What a data folder holds and what is wrong with it, without training anything."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from urd.data.decoding import UnreadableImage, read_mask, read_rgb
from urd.data.layouts import DataSet, Sample, read_layout
from urd.progress import track


@dataclass
class Report:
    """Counts, and problems by kind; an empty `problems` means that nothing is wrong."""

    root: str
    layout: str
    counts: dict[str, int]
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "ok": not self.problems}


def check(data: str | Path) -> Report:
    """Read every file of DATA.

    Problems are unreadable images and masks, masks of another size, empty masks, defective images
    without and masks without image, files that are there twice, and training images that stand in
    the test set too (a leak: it makes results look better than they are).
    """
    data_set = read_layout(data)
    report = Report(str(data_set.root), data_set.layout, _counts(data_set))
    problems: defaultdict[str, list[str]] = defaultdict(list)
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    seen: defaultdict[str, list[tuple[str, Sample]]] = defaultdict(list)
    samples = [("train", s) for s in data_set.train]
    samples += [("validation", s) for s in data_set.validation]
    samples += [("test", s) for s in data_set.test]
    for split, sample in track(samples, "Checking", len(samples)):
        try:
            image = read_rgb(sample.path)
            with Image.open(sample.path) as file:
                modes[file.mode] += 1
        except UnreadableImage as error:
            problems["unreadable"].append(f"{error.path}: {error.reason}")
            continue
        sizes[f"{image.width}x{image.height}"] += 1
        # Of the pixels and not of the file, so that a copy in another format is found too.
        digest = hashlib.sha256(image.tobytes() + repr(image.size).encode()).hexdigest()
        seen[digest].append((split, sample))
        _check_masks(sample, (image.height, image.width), problems)
    _find_copies(seen, problems)
    problems["mask_without_image"] += map(str, data_set.orphan_masks)
    problems["defective_without_mask"] += map(str, data_set.missing_masks)
    report.sizes, report.modes = dict(sizes.most_common()), dict(modes.most_common())
    report.problems = {kind: entries for kind, entries in problems.items() if entries}
    return report


def _counts(data_set: DataSet) -> dict[str, int]:
    counts = Counter({"train/good": len(data_set.train)})
    if data_set.validation:
        counts["validation/good"] = len(data_set.validation)
    counts.update(f"test/{sample.defect}" for sample in data_set.test)
    return dict(counts)


def _check_masks(
    sample: Sample, size: tuple[int, int], problems: defaultdict[str, list[str]]
) -> None:
    for mask in sample.masks:
        try:
            marked = read_mask(mask)
        except UnreadableImage as error:
            problems["unreadable"].append(f"{error.path}: {error.reason}")
            continue
        if marked.shape != size:
            problems["mask_size"].append(
                f"{mask} is {marked.shape[1]}x{marked.shape[0]}, its image {size[1]}x{size[0]}"
            )
        if marked.any() != sample.defective:
            kind = "empty_mask" if sample.defective else "marked_good_image"
            problems[kind].append(str(mask))


def _find_copies(
    seen: dict[str, list[tuple[str, Sample]]], problems: defaultdict[str, list[str]]
) -> None:
    for copies in seen.values():
        if len(copies) < 2:
            continue
        names = " = ".join(str(sample.path) for _, sample in copies)
        in_both = len({split for split, _ in copies}) > 1
        problems["train_test_leak" if in_both else "duplicate"].append(names)
