"""What a training consumes: images, foreground and textures, read once and split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from urd.backbones.encoder import Colour
from urd.config import FitConfig
from urd.data import (
    PER_IMAGE,
    Reading,
    Roi,
    Rois,
    Sample,
    UnreadableImage,
    decode_all,
    decode_or_refuse,
    paint_outside,
    read_rois,
)
from urd.errors import UsageError
from urd.model.header import ModelHeader
from urd.model.schema import DataFacts
from urd.synthesis.textures import split_textures
from urd.system.seeding import generator
from urd.training.synthesis_inputs import find_foreground, read_textures

HELD_OUT = "held-out training images"  # the source of a calibration by `TrainingData.holdout`
_HOLDOUT_AT_LEAST = 8


@dataclass(frozen=True)
class TrainingImages:
    """What is trained on, on the training device.

    Attributes:
        images: good images, (N, 3, H, W) uint8.
        textures: (K, 3, H, W) uint8.
        foreground: (N, H, W) bool, or `None` for everywhere.
        roi: (N, H, W) bool, what is inspected, or `None` for all of it; the images are painted
            over elsewhere, and the foreground lies inside.
    """

    images: Tensor
    textures: Tensor
    foreground: Tensor | None
    roi: Tensor | None = None


@dataclass(frozen=True)
class TrainingData:
    """What a training consumes: images and textures, and the parts of both kept for validation.

    Attributes:
        facts: counts and fingerprints, as the model file keeps them.
        skipped: images that could not be read.
        roi: where all images alike are inspected, (H, W) bool; `None`: everywhere.
    """

    train: TrainingImages
    holdout: TrainingImages | None
    facts: DataFacts
    skipped: list[UnreadableImage]
    roi: Roi | None = None


def load_training_data(
    samples: list[Sample], config: FitConfig, colour: Colour, device: torch.device
) -> TrainingData:
    """Read good images, foreground and textures; split them into training and validation.

    Args:
        colour: RGB in [0, 1], with which images are painted where they are not inspected.

    Raises:
        UsageError: fewer than two images, foreground masks or textures can be read.
    """
    paths = [sample.path for sample in samples]
    images, kept, failures = decode_or_refuse(
        paths,
        config.image_size,
        Reading.of(config),
        at_least=2,
        what="good images to train on",
        label="Reading",
    )
    paths = [paths[index] for index in kept]
    foreground, method = find_foreground(images, paths, config)
    rois = read_rois(config.roi, config.ignore, config.image_size, Reading.of(config))
    roi = None
    if rois is not None:
        images, roi = _inspected(images, paths, rois, colour)
        foreground = roi if foreground is None else _both(foreground, roi)
    textures = read_textures(config)
    train_textures, kept_textures = split_textures(textures, generator(config.seed, "textures"))

    train_index, holdout_index = _split(len(images), config)
    chw = torch.from_numpy(images).permute(0, 3, 1, 2)

    def part(index: Tensor, of_textures: Tensor) -> TrainingImages:
        return TrainingImages(
            chw[index].to(device),
            of_textures.to(device),
            None if foreground is None else foreground[index].to(device),
            None if roi is None else roi[index].to(device),
        )

    facts = DataFacts(
        fingerprint=_fingerprint(chw),
        synthesis_fingerprint=_fingerprint(textures, foreground),
        train_images=len(train_index),
        holdout_images=len(holdout_index),
        skipped=len(failures),
        textures=len(textures),
        foreground=method,
        **_of_rois(rois),
    )
    return TrainingData(
        part(train_index, train_textures if len(holdout_index) else textures),
        part(holdout_index, kept_textures) if len(holdout_index) else None,
        facts,
        failures,
        rois.everywhere if rois else None,
    )


def _of_rois(rois: Rois | None) -> dict[str, Any]:
    if rois is None:
        return {}
    return {"region_of_interest": PER_IMAGE if rois.folders else "one for all images"}


def _split(count: int, config: FitConfig) -> tuple[Tensor, Tensor]:
    """Of so many images those to train on, in their order, and those that are held out."""
    order = torch.randperm(count, generator=generator(config.seed, "holdout"))
    held = holdout_count(count, config.holdout)
    return order[held:].sort().values, order[:held]


def held_out(paths: Sequence[Path], header: ModelHeader) -> list[Path]:
    """Of the images of a training those that it held out; none if `paths` are other images.

    The pixels must be the same; then the seed says which they were.
    """
    config = header.config
    images, kept, _ = decode_all(paths, config.image_size, Reading.of(config))
    images = paint_outside(images, header.roi, header.mean)
    if _fingerprint(torch.from_numpy(images).permute(0, 3, 1, 2)) != header.data.fingerprint:
        return []
    return [paths[kept[index]] for index in _split(len(kept), config)[1].tolist()]


def _inspected(
    images: np.ndarray, paths: list[Path], rois: Rois, colour: Colour
) -> tuple[np.ndarray, Tensor]:
    """Images painted over where they are not inspected, and where they are, (N, H, W) bool."""
    try:
        found = np.stack([rois.of(path) for path in paths])
    except UnreadableImage as error:
        raise UsageError(str(error)) from error
    painted = [paint_outside(i, r, colour) for i, r in zip(images, found, strict=True)]
    return np.stack(painted), torch.from_numpy(found)


def _both(foreground: Tensor, roi: Tensor) -> Tensor:
    """Where both hold, (N, H, W) bool; of an image where they do not meet, the region."""
    both = foreground & roi
    return torch.where(both.flatten(1).any(dim=1)[:, None, None], both, roi)


def _fingerprint(*tensors: Tensor | None) -> str:
    """SHA-256 of the values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            continue
        for item in tensor:  # one after the other: all at once would be a second copy
            digest.update(item.contiguous().numpy())
    return digest.hexdigest()


def holdout_count(images: int, share: float) -> int:
    """How many good images are held out: the share, at least 8, never more than half."""
    if share == 0:
        return 0
    return min(max(_HOLDOUT_AT_LEAST, round(share * images)), images // 2)
