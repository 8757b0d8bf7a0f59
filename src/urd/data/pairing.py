"""Find by name which masks belong to which images.

The masks of the image `dent/cam1/000.png` are `dent/cam1/000_mask.png`, `dent/cam1/000.png` and all
files in the folder `dent/cam1/000`, with any suffix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from urd.data.finding import name_of


@dataclass(frozen=True)
class Pairs:
    """Images and their masks.

    Attributes:
        masks: the masks of each image that has some.
        orphans: masks without an image.
        disputed: a line for each mask that belongs to more than one image.
    """

    masks: dict[Path, tuple[Path, ...]]
    orphans: list[Path]
    disputed: list[str]


def pair(images: Sequence[Path], images_in: Path, masks: Sequence[Path], masks_in: Path) -> Pairs:
    """Pair the images and masks with the same names in two folders; maps may take their place."""
    named: defaultdict[str, list[Path]] = defaultdict(list)
    for image in images:
        named[name_below(image, images_in)].append(image)
    found: defaultdict[Path, tuple[Path, ...]] = defaultdict(tuple)
    orphans, disputed = [], []
    for mask in masks:
        name = name_below(mask, masks_in)
        names = dict.fromkeys((name.removesuffix("_mask"), name, name.rpartition("/")[0]))
        owners = [image for candidate in names for image in named.get(candidate, ())]
        if not owners:
            orphans.append(mask)
        elif len(owners) == 1:
            found[owners[0]] += (mask,)
        else:
            disputed.append(f"{mask} belongs to {' and '.join(map(str, owners))}")
    return Pairs(dict(found), orphans, disputed)


def name_below(path: Path, folder: Path) -> str:
    """The name below `folder`: `dent/cam1/000` for `FOLDER/dent/cam1/000.png`."""
    return (path.relative_to(folder).parent / name_of(path)).as_posix()
