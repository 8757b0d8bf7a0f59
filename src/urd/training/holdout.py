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
from urd.training.holdout_count import holdout_count

FOLDER = "folder"
_THUMBNAIL = 32  # pixels
_BESIDE = 2  # images before or after
_SERIES = 0.25  # of the held-out images; found: 0 on screw, 0.19 on pill, 0.28 on bsd_pitting


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


def in_one_series(images: Tensor, train: Tensor, held: Tensor) -> int:
    """How many held-out images look most like the image just before or after them; 0 if few do.

    That is so where a camera takes series: the next image shows nearly the same. By chance it is
    rare. Images are compared as small grey pictures.

    Args:
        images: (N, 3, H, W) uint8, in the order of their names.
        train, held: the numbers of the images to train on and of the held-out ones.
    """
    if not len(train) or not len(held):
        return 0
    small = _small(images)
    nearest = train[torch.cdist(small[held], small[train], p=1).argmin(dim=1)]
    beside = int(((nearest - held).abs() <= _BESIDE).sum())
    by_chance = 2 * _BESIDE / len(images)
    return beside if beside >= max(_SERIES, 5 * by_chance) * len(held) else 0


def _small(images: Tensor) -> Tensor:
    """Grey pictures (N, 32 * 32)."""
    parts = [
        functional.adaptive_avg_pool2d(part.float().mean(dim=1), _THUMBNAIL).flatten(1)
        for part in images.split(64)
    ]
    return torch.cat(parts).cpu()
