"""Folder layouts of the data sets, read to one list of samples."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from urd.data.finding import Found, holds_results, refuse_results, search, some
from urd.data.pairing import pair
from urd.data.sources import SOURCES, Source
from urd.errors import UsageError
from urd.system.progress import note

GOOD = "good"


@dataclass(frozen=True)
class Sample:
    """One image, what the folder says of it, and its masks if it has some.

    Several masks of one image mark its defects together.
    """

    path: Path
    defect: str = GOOD
    masks: tuple[Path, ...] = ()

    @property
    def defective(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True)
class DataSet:
    """All that a data folder holds.

    Attributes:
        layout: `folder`, or a key of `FOLDERS`, or `visa`.
        validation: good images that a benchmark sets apart; not trained on, not tested on.
        has_masks: there are ground-truth masks.
        orphan_masks: masks to which no image belongs; `disputed_masks` says to which two one does.
        unlabelled: test images whose labels the owners of a benchmark keep; they are not used.
        unused: images that are in none of the lists, `empty` the folders without the images that
            they are for.
        found: all files that were looked at.
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
        """Defective test images without a mask, where masks exist at all."""
        return [s.path for s in self.test if self.has_masks and s.defective and not s.masks]

    def in_folders(self, images: Sequence[Path]) -> dict[str, int]:
        """How many images lie in which folder below the root."""
        folders = Counter(os.path.relpath(path.parent, self.root) for path in images)
        return dict(sorted(folders.items()))

    def passed_over(self) -> list[str]:
        """A line for each kind of thing that is not used."""
        lines = self.found.passed_over()
        for images, what in (
            (self.unlabelled, "images without labels"),
            (self.unused, "images that are no part of the layout"),
        ):
            if images:
                folders = [f"{count} in {name}" for name, count in self.in_folders(images).items()]
                lines.append(f"skipped {what}: {some(folders)}")
        if self.empty:
            lines.append(f"no images in {some(self.empty)}")
        return lines


@dataclass(frozen=True)
class Folders:
    """Where a layout keeps what, below the folder of a category."""

    train: str = "train/good"
    test: str = "test"
    ground_truth: str = "ground_truth"
    good: str = "good"
    validation: str | None = None
    unlabelled: tuple[str, ...] = ()  # of the benchmark's owners, who keep the labels


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
    """All images of DATA, which is one category.

    Either a plain folder of good images, or MVTec's layout (`train/good`, `test/<defect>`,
    `ground_truth/<defect>/<name>_mask.png`; `train` or `test` may be absent), or that of BTAD,
    MVTec LOCO, MVTec AD 2 (its public test set) or VisA as downloaded. `PREFIX:ROOT/CATEGORY` names
    the benchmark, which is then checked, and says where to get it if it is not there.

    `train/good`, `test/<defect>` and the like are read with all folders below them, masks lie
    alike; a plain folder is not, for one of those below may be called "bad". What is not used is
    said by `note`.

    Raises:
        UsageError: no such folder, no images where they are looked for, images below a plain
            folder, or a mask that belongs to two images.
    """
    data_set = survey(data)
    if data_set.disputed_masks:
        raise UsageError(f"a mask for one image only: {some(data_set.disputed_masks)}")
    if data_set.layout == "folder" and data_set.unused:
        folders = [f"{name} ({n})" for name, n in data_set.in_folders(data_set.unused).items()]
        raise UsageError(
            f"{data_set.root} is read as a folder of good images, but there are images in folders "
            f"below it: {some(folders)}. Put the good ones into one folder, or into "
            f"{data_set.root / FOLDERS['mvtec'].train}, below which all are read"
        )
    for line in data_set.passed_over():
        note(line)
    return data_set


def survey(data: str | Path) -> DataSet:
    """As `read_layout`, but also what is ambiguous: images below a plain folder are `unused`."""
    source, root = _split_prefix(str(data))
    if source is not None and not root.exists():
        raise UsageError(f"nothing at {root}. {source.how_to_get()}; give ROOT/CATEGORY")
    if root.is_file():
        raise UsageError(f"{root} is a file; DATA is a folder of images")
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


def _recognise(root: Path) -> str:
    """By the folders that only one layout has; `folder` where there is none of them."""
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
    """A category of VisA: which images train and which test is said by the split file beside it."""
    split = root.parent / _VISA_SPLIT
    if not split.is_file():
        raise UsageError(f"{root} is a category of VisA, but its split file {split} is not there")
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
            f"{split} is not VisA's split file, whose columns are object,split,label,image,mask"
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
    start = f"{folder}{os.sep}"  # as text: of 100,000 paths, pathlib would take seconds
    return [path for path in paths if str(path).startswith(start)]


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(d for d in parent.iterdir() if d.is_dir() and not d.name.startswith("."))
