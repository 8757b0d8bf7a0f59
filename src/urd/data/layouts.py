"""Read the folder layouts of data sets into lists of samples."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from urd.data.finding import (
    Found,
    find_named,
    fits,
    holds_results,
    is_image,
    refuse_results,
    search,
)
from urd.data.globs import fitting, is_glob
from urd.data.pairing import pair
from urd.data.sources import SOURCES, Source
from urd.errors import UsageError, some
from urd.system.progress import note

GOOD = "good"


@dataclass(frozen=True)
class Sample:
    """One image, its label from the folder, and its masks if there are any.

    The defects of an image are all that its masks mark together.
    """

    path: Path
    defect: str = GOOD
    masks: tuple[Path, ...] = ()

    @property
    def defective(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True)
class DataSet:
    """The content of a data folder.

    Attributes:
        layout: `folder`, `visa` or a key of `FOLDERS`.
        validation: good images that a benchmark sets apart; not used in training or test.
        has_masks: there are ground-truth masks.
        orphan_masks: masks without an image.
        disputed_masks: a line for each mask that belongs to two images.
        unlabelled: test images whose labels the owners of a benchmark keep; they are not used.
        unused: images in none of the lists.
        empty: folders of the layout that have no images.
        found: all files that the search found.
    """

    root: Path
    layout: str
    train: list[Sample]
    test: list[Sample] = field(default_factory=list)
    validation: list[Sample] = field(default_factory=list)
    has_masks: bool = False
    orphan_masks: list[Path] = field(default_factory=list)
    disputed_masks: list[str] = field(default_factory=list)
    unlabelled: list[Path] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    found: Found = field(default_factory=Found)

    @property
    def missing_masks(self) -> list[Path]:
        """Defective test images without a mask; empty if the data set has no masks."""
        return [s.path for s in self.test if self.has_masks and s.defective and not s.masks]

    def in_folders(self, images: Sequence[Path]) -> dict[str, int]:
        """The number of images in each folder below the root."""
        folders = Counter(os.path.relpath(path.parent, self.root) for path in images)
        return dict(sorted(folders.items()))

    def passed_over(self) -> list[str]:
        """A line for each kind of file or folder that is not used."""
        lines = self.found.passed_over()
        for images, what in (
            (self.unlabelled, "images without labels"),
            (self.unused, "images that are not part of the layout"),
        ):
            if images:
                folders = [f"{count} in {name}" for name, count in self.in_folders(images).items()]
                lines.append(f"skipped {what}: {some(folders)}")
        if self.empty:
            lines.append(f"no images in {some(self.empty)}")
        return lines


@dataclass(frozen=True)
class Folders:
    """The folders of a layout, below the folder of a category."""

    train: str = "train/good"
    test: str = "test"
    ground_truth: str = "ground_truth"
    good: str = "good"
    validation: str | None = None
    unlabelled: tuple[str, ...] = ()  # the owners of the benchmark keep the labels


FOLDERS = {
    "mvtec": Folders(),
    "btad": Folders(train="train/ok", good="ok"),
    "mvtec_loco": Folders(validation="validation/good"),
    "mvtec_ad_2": Folders(
        test="test_public",
        ground_truth="test_public/ground_truth",
        validation="validation/good",
        unlabelled=("test_private", "test_private_mixed"),
    ),
}
_VISA_SPLIT = Path("split_csv", "1cls.csv")


def read_layout(data: str | Path) -> DataSet:
    """Read all images of DATA, which is one category.

    DATA is a plain folder of good images, or has MVTec's layout (`train/good`, `test/<defect>`,
    `ground_truth/<defect>/<name>_mask.png`; `train` or `test` may be absent), or the layout of
    BTAD, MVTec LOCO, MVTec AD 2 (its public test set) or VisA as downloaded. With
    `PREFIX:ROOT/CATEGORY` the layout must be that of the benchmark PREFIX; if the folder is
    missing, the error says where to get it. A glob stands for the one folder that fits it, or for
    the good images that fit it or lie directly in plain folders that fit it.

    Folders such as `train/good` are read with all folders below them; masks are in the same
    subfolders. A plain folder is read without subfolders, because one may be called "bad". `note`
    reports what is not used.

    Raises:
        UsageError: the folder is missing, has no images in the places of its layout, is a plain
            folder with images in subfolders, or a mask belongs to two images.
    """
    data_set = survey(data)
    if data_set.disputed_masks:
        raise UsageError(f"a mask must belong to one image: {some(data_set.disputed_masks)}")
    if data_set.layout == "folder" and data_set.unused:
        folders = [f"{name} ({n})" for name, n in data_set.in_folders(data_set.unused).items()]
        raise UsageError(
            f"{data_set.root} is read as a folder of good images, but there are images in folders "
            f"below it: {some(folders)}. Put the good images into one folder, or into "
            f"{data_set.root / FOLDERS['mvtec'].train}, which is read with all folders below it"
        )
    for line in data_set.passed_over():
        note(line)
    return data_set


def read_good_images(folder: Path) -> list[Path]:
    """The images of a plain folder of good images, for thresholds.

    Raises:
        UsageError: as `read_layout`; or it is a data set with training and test images.
    """
    data_set = read_layout(folder)
    if data_set.layout != "folder":
        raise UsageError(
            f"{folder} is a data set with its own training and test images; give a folder of good "
            "images that training did not see"
        )
    return [sample.path for sample in data_set.train]


def survey(data: str | Path) -> DataSet:
    """As `read_layout`, but accept ambiguous data: images below a plain folder are `unused`."""
    source, root = _split_prefix(str(data))
    if is_glob(str(root)):
        return _read_glob(str(root), source)
    if source is not None and not root.exists():
        raise UsageError(f"nothing at {root}. {source.how_to_get()}; give ROOT/CATEGORY")
    if root.is_file():
        raise UsageError(f"{root} is a file; DATA must be a folder of images")
    if not root.is_dir():
        raise UsageError(f"no folder at {root}")
    layout = _recognise(root)
    if source is not None and layout != source.layout:
        inner = ", ".join(c for c in source.categories if (root / c).is_dir())
        hint = f"give one of its categories: {inner}" if inner else source.how_to_get()
        raise UsageError(f"{root} is not a category of {source.title}; {hint}")
    if layout == "visa":
        return _read_visa(root)
    if layout in FOLDERS:
        return _read_folders(root, layout)
    return _read_plain(root)


def _split_prefix(text: str) -> tuple[Source | None, Path]:
    prefix, colon, rest = text.partition(":")
    if colon and prefix in SOURCES:
        return SOURCES[prefix], Path(rest)
    if colon and "/" in rest and len(prefix) > 1 and not Path(text).exists():
        raise UsageError(f"unknown benchmark '{prefix}': choose from {', '.join(SOURCES)}")
    return None, Path(text)


def is_category(folder: Path) -> bool:
    """Whether the folder has the layout of a data set; a plain folder of images has none."""
    return _recognise(folder) != "folder"


def _recognise(root: Path) -> str:
    """The layout, from folders that only one layout has; `folder` if there are none."""
    if (root / "test_public").is_dir():
        return "mvtec_ad_2"
    if (root / "Data" / "Images").is_dir():
        return "visa"
    if any((root / name).is_dir() for name in ("train/ok", "test/ok", "test/ko")):
        return "btad"
    if (root / "train").is_dir() or (root / "test").is_dir():
        return "mvtec_loco" if (root / "validation" / GOOD).is_dir() else "mvtec"
    return "folder"


def _read_plain(root: Path) -> DataSet:
    refuse_results(root)
    found = search(root)
    images = [path for path in found.images if path.parent == root]
    if not images:
        inner = ", ".join(d.name for d in _folders(root)[:5])
        hint = f"; it has the folders {inner}" if inner else ""
        raise UsageError(
            f"no images in {root}: expected train/good and test/<defect> (MVTec layout), or good "
            f"images directly in the folder{hint}"
        )
    below = [path for path in found.images if path.parent != root]
    return DataSet(root, "folder", [Sample(path) for path in images], unused=below, found=found)


def _read_glob(pattern: str, source: Source | None) -> DataSet:
    """The folder that fits, or a data set of the good images that fit."""
    matches = fitting(pattern)
    if len(matches) == 1 and matches[0].is_dir():
        return survey(matches[0] if source is None else f"{source.prefix}:{matches[0]}")
    sets = [path for path in matches if path.is_dir() and _recognise(path) != "folder"]
    if sets or source is not None:
        raise UsageError(f"{pattern} fits {some(sets or matches)}: give one data set")
    found = find_named([pattern], Path(pattern))  # nothing lies at the path of a glob
    found.others += [path for path in found.images if not is_image(path)]
    found.images[:] = filter(is_image, found.images)
    # A file fits, or its folder does; what lies deeper may be in a folder called "bad".
    parts = Path(pattern).parts
    every_depth = parts[-1] == "**"
    direct, deeper = [], list[Path]()
    for path in found.images:
        if every_depth or not fits(path.parent.parent.parts, parts):
            direct.append(Sample(path))
        else:
            deeper.append(path)
    if not direct:
        raise UsageError(
            f"no images fit {pattern}; {len(deeper)} are deeper, in folders below those that fit"
        )
    root = Path(os.path.commonpath([sample.path.parent for sample in direct]))
    return DataSet(root, "folder", direct, unused=deeper, found=found)


def _read_folders(root: Path, layout: str) -> DataSet:
    folders = FOLDERS[layout]
    found = search(root)
    truth, in_test = root / folders.ground_truth, root / folders.test
    masks = _below(found.images, truth)
    are_masks = set(masks)
    types = [d for d in _folders(in_test) if d != truth and not holds_results(d)]
    images = {d: [p for p in _below(found.images, d) if p not in are_masks] for d in types}
    pairs = pair([p for of_type in images.values() for p in of_type], in_test, masks, truth)
    test = [
        Sample(path, GOOD if d.name == folders.good else d.name, pairs.masks.get(path, ()))
        for d, of_type in images.items()
        for path in of_type
    ]
    train = [Sample(path) for path in _below(found.images, root / folders.train)]
    if not train and not test:
        raise UsageError(f"no images in {root}: {folders.train} and {folders.test} are empty")
    validation = (
        [Sample(path) for path in _below(found.images, root / folders.validation)]
        if folders.validation
        else []
    )
    unlabelled = [p for name in folders.unlabelled for p in _below(found.images, root / name)]
    used = are_masks.union(unlabelled, (sample.path for sample in (*train, *test, *validation)))
    return DataSet(
        root,
        layout,
        train,
        test,
        validation,
        has_masks=bool(masks),
        orphan_masks=pairs.orphans,
        disputed_masks=pairs.disputed,
        unlabelled=unlabelled,
        unused=[path for path in found.images if path not in used],
        empty=[d for d, of_type in images.items() if not of_type],
        found=found,
    )


def _read_visa(root: Path) -> DataSet:
    """A category of VisA; the split file beside it says which images are for training and test."""
    split = root.parent / _VISA_SPLIT
    if not split.is_file():
        raise UsageError(f"{root} is a category of VisA, but its split file {split} is missing")
    parts: dict[str, list[Sample]] = {"train": [], "test": []}
    try:
        with split.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["object"] == root.name]
        for row in rows:
            defect = GOOD if row["label"] == "normal" else "anomaly"
            masks = (root.parent / row["mask"],) if row["mask"] else ()
            parts[row["split"]].append(Sample(root.parent / row["image"], defect, masks))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{split} is not VisA's split file: it needs the columns object,split,label,image,mask"
        ) from error
    if not parts["train"] and not parts["test"]:
        raise UsageError(f"{split} has no rows of {root.name}")
    samples = [*parts["train"], *parts["test"]]
    used = {path for sample in samples for path in (sample.path, *sample.masks)}
    found = search(root)
    return DataSet(
        root,
        "visa",
        parts["train"],
        parts["test"],
        has_masks=any(sample.masks for sample in parts["test"]),
        unused=[path for path in found.images if path not in used],
        found=found,
    )


def _below(paths: Sequence[Path], folder: Path) -> list[Path]:
    start = f"{folder}{os.sep}"  # as text: pathlib takes seconds for 100,000 paths
    return [path for path in paths if str(path).startswith(start)]


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(d for d in parent.iterdir() if d.is_dir() and not d.name.startswith("."))
