"""Which good images a training holds out for thresholds and choices."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from urd.config import FitConfig
from urd.errors import UsageError, quoted
from urd.system.seeding import generator

FOLDER = "folder"
_AT_LEAST = 8
_THUMBNAIL = 32  # pixels
_NEARLY_SAME = 0.25  # of the usual difference between two images


def split(paths: Sequence[Path], config: FitConfig) -> tuple[Tensor, Tensor]:
    """Numbers of the images to train on, ascending, and of the held-out ones.

    Raises:
        UsageError: `holdout_by` fits no image, or leaves too few to train on.
    """
    if config.holdout_by and config.holdout:
        held = _by_folder(paths, config) if config.holdout_by == FOLDER else _named(paths, config)
        kept = torch.ones(len(paths), dtype=torch.bool)
        kept[held] = False
        return torch.arange(len(paths))[kept], held
    order = torch.randperm(len(paths), generator=generator(config.seed, "holdout"))
    count = holdout_count(len(paths), config.holdout)
    return order[count:].sort().values, order[:count]


def holdout_count(images: int, share: float) -> int:
    """Number of held-out good images: the share, but at least 8, and at most half; 0 for 0."""
    if share == 0:
        return 0
    return min(max(_AT_LEAST, round(share * images)), images // 2)


def _by_folder(paths: Sequence[Path], config: FitConfig) -> Tensor:
    """Whole folders in a random order, until the share is reached; at most half of the images."""
    folders = list(dict.fromkeys(path.parent for path in paths))
    order = torch.randperm(len(folders), generator=generator(config.seed, "holdout")).tolist()
    wanted = holdout_count(len(paths), config.holdout)
    held: list[int] = []
    for index in order:
        inside = [n for n, path in enumerate(paths) if path.parent == folders[index]]
        if len(held) < wanted and len(held) + len(inside) <= len(paths) // 2:
            held += inside
    if not held:
        raise UsageError(
            f"--holdout-by {FOLDER}: each folder of good images has over half of them, so none can "
            "be held out"
        )
    return torch.tensor(sorted(held))


def _named(paths: Sequence[Path], config: FitConfig) -> Tensor:
    pattern = config.holdout_by
    held = [n for n, path in enumerate(paths) if _fits(path, pattern)]
    if not 0 < len(held) <= len(paths) // 2:
        raise UsageError(
            f"--holdout-by {quoted(pattern)} fits {len(held)} of {len(paths)} good images: give "
            "'folder', or a pattern such as 'day3/*' that fits some, but at most half"
        )
    return torch.tensor(held)


def _fits(path: Path, pattern: str) -> bool:
    name = path.as_posix()
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*/{pattern}")


def nearly_same(train: Tensor, held: Tensor) -> int:
    """How many held-out images (H, 3, h, w) are nearly the same as an image to train on.

    So it is in a series that a camera takes at once: thresholds from such images are too low for
    the next day. Images are compared as small grey pictures; the measure is the usual difference
    between two images to train on.
    """
    if len(train) < 2 or not len(held):
        return 0
    first, second = _small(train), _small(held)
    usual = float((first[1:] - first[:-1].flip(0)).abs().mean(dim=1).median())
    nearest = torch.cdist(second, first, p=1).amin(dim=1) / first.shape[1]
    return int((nearest < _NEARLY_SAME * usual).sum())


def _small(images: Tensor) -> Tensor:
    """Grey pictures (N, 32 * 32)."""
    parts = [
        functional.adaptive_avg_pool2d(part.float().mean(dim=1), _THUMBNAIL).flatten(1)
        for part in images.split(64)
    ]
    return torch.cat(parts).cpu()
