"""Which images a run was trained on. Thresholds from them would promise too much."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from urd.config import FitConfig
from urd.data import PER_IMAGE, Reading, decode_all, paint_outside
from urd.errors import UsageError, some
from urd.model.header import ModelHeader
from urd.model.run_folder import RunFolder
from urd.system.documents import MIB
from urd.system.schema import read_checked
from urd.training.schema import GoodImageDistance

_MOST_BYTES = 64 * MIB
_Unlike = Annotated[list[GoodImageDistance], Field(max_length=1_000_000)]


def read_unlike(run: Path) -> list[GoodImageDistance]:
    """The training images, those least like the others first; empty if there is no such file.

    Raises:
        UrdError: the file is damaged.
    """
    path = RunFolder(run).unlike
    if not path.exists():
        return []
    found: list[GoodImageDistance] = read_checked(
        _Unlike, path, _MOST_BYTES, "is damaged", "move it away to go on without it"
    )
    return found


def refuse_trained_on(
    run: Path, header: ModelHeader, images: Sequence[Path], reading: Reading
) -> None:
    """Refuse images from which a detector has learned.

    A run with a memory lists its training images: each of them is found, and each copy of a file
    that is still there. Otherwise only all images of the training together are found, by their
    pixels: a model file keeps one fingerprint for all.

    Args:
        run: a run folder, a model file or an exported file.
        reading: how `images` are read; other pages or bits of the same files are other images.

    Raises:
        UsageError: a training image is among them.
        UrdError: the list of training images is damaged.
    """
    if reading != Reading.of(header.config):
        return
    trained = read_unlike(run if run.is_dir() else run.parent) if _is_of_run(run) else []
    if known := among(images, [Path(image.path) for image in trained]):
        raise UsageError(
            f"{len(known)} of these {len(images)} images were trained on: {some(known)}; give "
            "images that training did not see"
        )
    if _is_whole_training(images, header):
        raise UsageError(
            f"{header.data.train_images} of these {len(images)} images were trained on: they are "
            "the images of the training; give others"
        )


def among(images: Sequence[Path], trained: Sequence[Path]) -> list[Path]:
    """Those of `images` that are one of the `trained` files, or a copy of one."""
    paths = {os.path.realpath(path) for path in trained}
    of_size: dict[int, list[Path]] = defaultdict(list)
    for path in trained:
        if (size := _size(path)) is not None:
            of_size[size].append(path)

    def is_known(image: Path) -> bool:
        if os.path.realpath(image) in paths:
            return True
        size = _size(image)
        return size is not None and any(_same(image, other) for other in of_size[size])

    return [image for image in images if is_known(image)]


def _is_of_run(run: Path) -> bool:
    """Whether it is a run folder or the model file in one, beside which the list lies."""
    return run.is_dir() or run == RunFolder(run.parent).model


def _size(path: Path) -> int | None:
    """Bytes of a file; `None` if it is no file or not there."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:  # judging the image says why it cannot be read
        return False


def _is_whole_training(images: Sequence[Path], header: ModelHeader) -> bool:
    """Whether they are all images of the training, by the fingerprint of their pixels."""
    facts, config = header.data, header.config
    count = sum(n or 0 for n in (facts.train_images, facts.holdout_images, facts.skipped))
    if not facts.train_images or len(images) != count or facts.region_of_interest == PER_IMAGE:
        return False
    return _fingerprint(images, header, config) == facts.fingerprint


def _fingerprint(images: Sequence[Path], header: ModelHeader, config: FitConfig) -> str:
    """As `urd.training.training_data` makes it, without torch: exported files need none."""
    pixels, *_ = decode_all(images, config.image_size, Reading.of(config), label="Comparing")
    digest = hashlib.sha256()
    for image in paint_outside(pixels, header.roi, header.mean):
        digest.update(image.transpose(2, 0, 1).tobytes())
    return digest.hexdigest()
