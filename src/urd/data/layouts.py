"""Folder layouts of the data sets, read to one list of samples."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from urd.data.image_files import IMAGE_SUFFIXES
from urd.data.sources import SOURCES, Source
from urd.errors import UsageError

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
        orphan_masks: masks to which no image belongs.
    """

    root: Path
    layout: str
    train: list[Sample]
    test: list[Sample] = field(default_factory=list)
    validation: list[Sample] = field(default_factory=list)
    has_masks: bool = False
    orphan_masks: list[Path] = field(default_factory=list)

    @property
    def missing_masks(self) -> list[Path]:
        """Defective test images without a mask, where masks exist at all."""
        return [s.path for s in self.test if self.has_masks and s.defective and not s.masks]


@dataclass(frozen=True)
class Folders:
    """Where a layout keeps what, below the folder of a category."""

    train: str = "train/good"
    test: str = "test"
    ground_truth: str = "ground_truth"
    good: str = "good"
    validation: str | None = None


FOLDERS = {
    "mvtec": Folders(),
    "btad": Folders(train="train/ok", good="ok"),
    "mvtec_loco": Folders(validation="validation/good"),
    "mvtec_ad_2": Folders(
        test="test_public",
        ground_truth="test_public/ground_truth",
        validation="validation/good",
    ),
}
_VISA_SPLIT = Path("split_csv", "1cls.csv")


def read_layout(data: str | Path) -> DataSet:
    """Recognise the layout of DATA, which is one category.

    Either a plain folder of good images, or MVTec's layout (`train/good`, `test/<defect>`,
    `ground_truth/<defect>/<name>_mask.png`; `train` or `test` may be absent), or that of BTAD,
    MVTec LOCO, MVTec AD 2 (its public test set) or VisA as downloaded. `PREFIX:ROOT/CATEGORY` names
    the benchmark, which is then checked, and says where to get it if it is not there.

    Raises:
        UsageError: no such folder, or no images where they are looked for.
    """
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
    images = list_images(root)
    if not images:
        inner = ", ".join(d.name for d in _folders(root)[:5])
        found = f"; it has the folders {inner}" if inner else ""
        raise UsageError(
            f"no images in {root}: expected train/good and test/<defect> (MVTec layout), or good "
            f"images ({', '.join(IMAGE_SUFFIXES)}) directly in the folder{found}"
        )
    return DataSet(root, "folder", [Sample(path) for path in images])


def list_images(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Files with these suffixes directly in a folder, by name; hidden files are passed over."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and not path.is_dir()
    )


def list_masks(ground_truth: Path) -> dict[str, dict[str, tuple[Path, ...]]]:
    """Masks by type of defect and by the name of their image.

    The masks of the image `000` are `<type>/000_mask.png`, or `<type>/000.png`, or all files in the
    folder `<type>/000`.
    """
    found: dict[str, dict[str, tuple[Path, ...]]] = {}
    for of_type in _folders(ground_truth):
        found[of_type.name] = masks_by_name(of_type)
        for of_image in _folders(of_type):
            before = found[of_type.name].get(of_image.name, ())
            found[of_type.name][of_image.name] = (*before, *list_images(of_image))
    return found


def masks_by_name(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Mask files directly in a folder, by the name of their image: `000_mask.png`, `000.png`."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in list_images(folder):
        name = path.stem.removesuffix("_mask")
        found[name] = (*found.get(name, ()), path)
    return found


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


def _read_folders(root: Path, layout: str) -> DataSet:
    folders = FOLDERS[layout]
    masks = list_masks(root / folders.ground_truth)
    test: list[Sample] = []
    used: set[Path] = set()
    for folder in _folders(root / folders.test):
        if folder == root / folders.ground_truth:
            continue
        of_type = masks.get(folder.name, {})
        defect = GOOD if folder.name == folders.good else folder.name
        for path in list_images(folder):
            found = of_type.get(path.stem, ())
            used.update(found)
            test.append(Sample(path, defect, found))
    every = [path for of_type in masks.values() for found in of_type.values() for path in found]
    every += list_images(root / folders.ground_truth)  # loose: masks lie in a folder per type
    train = [Sample(path) for path in list_images(root / folders.train)]
    if not train and not test:
        raise UsageError(f"no images in {root}: {folders.train} and {folders.test} are empty")
    return DataSet(
        root,
        layout,
        train,
        test,
        [Sample(path) for path in list_images(root / folders.validation)]
        if folders.validation
        else [],
        has_masks=bool(every),
        orphan_masks=[path for path in every if path not in used],
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
    has_masks = any(sample.masks for sample in parts["test"])
    return DataSet(root, "visa", parts["train"], parts["test"], has_masks=has_masks)


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(d for d in parent.iterdir() if d.is_dir() and not d.name.startswith("."))
