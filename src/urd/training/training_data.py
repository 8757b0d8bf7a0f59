"""The data of a training: images, foreground and textures, read once and split."""

from __future__ import annotations

import hashlib
from collections import Counter
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
from urd.data.advice import image_size_advice
from urd.errors import UsageError
from urd.model.header import ModelHeader
from urd.model.schema import MOST_SIZES, DataFacts
from urd.synthesis.textures import split_textures
from urd.system.progress import note
from urd.system.seeding import generator
from urd.training.holdout import in_one_series, split
from urd.training.synthesis_inputs import find_foreground, read_textures

HELD_OUT = "held-out training images"  # the source of a calibration from `TrainingData.holdout`


@dataclass(frozen=True)
class TrainingImages:
    """Images and textures on the training device.

    Attributes:
        images: good images, (N, 3, H, W) uint8.
        textures: (K, 3, H, W) uint8.
        foreground: (N, H, W) bool, or `None` for everywhere.
        roi: the inspected part, (N, H, W) bool, or `None` for all. The images are painted over
            outside it, and the foreground is inside.
    """

    images: Tensor
    textures: Tensor
    foreground: Tensor | None
    roi: Tensor | None = None


@dataclass(frozen=True)
class TrainingData:
    """The images and textures of a training, and those held out for validation.

    Attributes:
        facts: counts and fingerprints for the model file.
        skipped: images that cannot be read.
        paths: of the images to train on.
        roi: the region inspected in all images, (H, W) bool; `None`: everywhere.
    """

    train: TrainingImages
    holdout: TrainingImages | None
    facts: DataFacts
    skipped: list[UnreadableImage]
    paths: list[Path]
    roi: Roi | None = None


def load_training_data(
    samples: list[Sample], config: FitConfig, colour: Colour, device: torch.device
) -> TrainingData:
    """Read good images, foreground and textures; split them into training and validation.

    Args:
        colour: RGB in [0, 1] for the part of images that is not inspected.

    Raises:
        UsageError: fewer than two images or textures can be read, or foreground masks or regions
            do not fit the images.
    """
    paths = [sample.path for sample in samples]
    images, kept, failures, sizes = decode_or_refuse(
        paths,
        config.image_size,
        Reading.of(config),
        at_least=2,
        what="good images to train on",
        label="Reading",
    )
    paths = [paths[index] for index in kept]
    for advice in image_size_advice(sizes, config.image_size):
        note(f"Suggestion: {advice}.")
    of_camera = camera_facts(images, sizes)
    foreground, method = find_foreground(images, paths, config)
    rois = read_rois(config.roi, config.ignore, config.image_size, Reading.of(config))
    roi = None
    if rois is not None:
        images, roi = _inspected(images, paths, rois, colour)
        foreground = roi if foreground is None else _both(foreground, roi)
    textures = read_textures(config)
    train_textures, kept_textures = split_textures(textures, generator(config.seed, "textures"))

    train_index, holdout_index = split(paths, config)
    chw = torch.from_numpy(images).permute(0, 3, 1, 2)
    if beside := in_one_series(chw, train_index, holdout_index):
        note(
            f"{beside} of {len(holdout_index)} held-out images look most like the image before or "
            "after them, as in a series that was taken at once. Thresholds may be too low for "
            "other days: hold out whole folders or series (--holdout-by)."
        )

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
        **of_camera,
        **_of_rois(rois),
    )
    return TrainingData(
        part(train_index, train_textures if len(holdout_index) else textures),
        part(holdout_index, kept_textures) if len(holdout_index) else None,
        facts,
        failures,
        [paths[index] for index in train_index.tolist()],
        rois.everywhere if rois else None,
    )


def camera_facts(images: np.ndarray, sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """What the camera of good images (N, H, W, 3) uint8 gives, so that a change can be noticed.

    Args:
        sizes: (height, width) of each original image.
    """
    means = np.array([image.mean() for image in images])
    grey = {bool((image[..., :1] == image).all()) for image in images}
    common = [list(size) for size, _ in Counter(sizes).most_common(MOST_SIZES + 1)]
    return {
        "brightness": [float(v) for v in (means.min(), np.median(means), means.max())],
        "grey": grey.pop() if len(grey) == 1 else None,
        "image_sizes": common if len(common) <= MOST_SIZES else None,
    }


def _of_rois(rois: Rois | None) -> dict[str, Any]:
    if rois is None:
        return {}
    return {"region_of_interest": PER_IMAGE if rois.folders else "one for all images"}


def held_out(paths: Sequence[Path], header: ModelHeader) -> list[Path]:
    """The held-out images of a training; an empty list if `paths` are other images.

    If the pixels are the same, the seed gives the same split.
    """
    config = header.config
    images, kept, _, _ = decode_all(paths, config.image_size, Reading.of(config))
    images = paint_outside(images, header.roi, header.mean)
    if _fingerprint(torch.from_numpy(images).permute(0, 3, 1, 2)) != header.data.fingerprint:
        return []
    known = [paths[index] for index in kept]
    try:
        return [known[index] for index in split(known, config)[1].tolist()]
    except UsageError:  # they lie in other folders now
        return []


def _inspected(
    images: np.ndarray, paths: list[Path], rois: Rois, colour: Colour
) -> tuple[np.ndarray, Tensor]:
    """Images painted over outside their regions, and the regions, (N, H, W) bool."""
    try:
        found = np.stack([rois.of(path) for path in paths])
    except UnreadableImage as error:
        raise UsageError(str(error)) from error
    painted = [paint_outside(i, r, colour) for i, r in zip(images, found, strict=True)]
    return np.stack(painted), torch.from_numpy(found)


def _both(foreground: Tensor, roi: Tensor) -> Tensor:
    """Foreground inside the region, (N, H, W) bool; where an image has none, the whole region."""
    both = foreground & roi
    return torch.where(both.flatten(1).any(dim=1)[:, None, None], both, roi)


def _fingerprint(*tensors: Tensor | None) -> str:
    """SHA-256 of the values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            continue
        for item in tensor:  # one at a time: `contiguous` copies, and a full copy is large
            digest.update(item.contiguous().numpy())
    return digest.hexdigest()
