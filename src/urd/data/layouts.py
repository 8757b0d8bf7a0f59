"""Folder layouts of the data sets, read to one list of samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from urd.data.decoding import IMAGE_SUFFIXES
from urd.errors import UsageError

GOOD = "good"
_PREFIXES = ("mvtec_ad:",)


@dataclass(frozen=True)
class Sample:
    """One image, what the folder says of it, and its mask if it has one."""

    path: Path
    defect: str = GOOD
    mask: Path | None = None

    @property
    def defective(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True)
class DataSet:
    """All that a data folder holds.

    Attributes:
        layout: `mvtec` or `folder`.
        has_masks: a `ground_truth` folder exists.
        orphan_masks: masks to which no image belongs.
    """

    root: Path
    layout: str
    train: list[Sample]
    test: list[Sample] = field(default_factory=list)
    has_masks: bool = False
    orphan_masks: list[Path] = field(default_factory=list)

    @property
    def missing_masks(self) -> list[Path]:
        """Defective test images without a mask, where masks exist at all."""
        return [s.path for s in self.test if self.has_masks and s.defective and s.mask is None]


def read_layout(data: str | Path) -> DataSet:
    """Recognise the layout of DATA.

    Either one category in MVTec layout (`train/good`, `test/<defect>`,
    `ground_truth/<defect>/<name>_mask.png`; `train` or `test` may be absent), or a plain folder of
    good images.

    Raises:
        UsageError: no such folder, or no images where they are looked for.
    """
    text = str(data)
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    root = Path(text)
    if root.is_file():
        raise UsageError(f"{root} is a file; DATA is a folder of images")
    if not root.is_dir():
        raise UsageError(f"no folder at {root}")
    if (root / "train").is_dir() or (root / "test").is_dir():
        return _read_mvtec(root)
    images = list_images(root)
    if not images:
        inner = [d.name for d in sorted(root.iterdir()) if d.is_dir()][:5]
        found = f"; it has the folders {', '.join(inner)}" if inner else ""
        raise UsageError(
            f"no images in {root}: expected train/good and test/<defect> (MVTec layout), or good "
            f"images ({', '.join(IMAGE_SUFFIXES)}) directly in the folder{found}"
        )
    return DataSet(root, "folder", [Sample(path) for path in images])


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, by name; hidden files are passed over."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and not path.is_dir()
    )


def _read_mvtec(root: Path) -> DataSet:
    train = [Sample(path) for path in list_images(root / "train" / GOOD)]
    masks = {
        folder.name: {mask.stem: mask for mask in list_images(folder)}
        for folder in _folders(root / "ground_truth")
    }
    test = []
    for folder in _folders(root / "test"):
        of_defect = masks.get(folder.name, {})
        for path in list_images(folder):
            mask = of_defect.get(f"{path.stem}_mask") or of_defect.get(path.stem)
            test.append(Sample(path, folder.name, mask))
    used = {sample.mask for sample in test}
    orphans = [m for of_defect in masks.values() for m in of_defect.values() if m not in used]
    orphans += list_images(root / "ground_truth")  # masks lie in a folder per defect
    if not train and not test:
        raise UsageError(f"no images in {root}: train/good and test/<defect> are empty")
    return DataSet(root, "mvtec", train, test, bool(masks or orphans), orphans)


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(d for d in parent.iterdir() if d.is_dir() and not d.name.startswith("."))
