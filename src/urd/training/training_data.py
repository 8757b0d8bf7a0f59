"""What a training consumes: images, foreground and textures, read once and split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn import functional

from urd.backbones.builtin import BUILTIN, MEAN, STD
from urd.config import FitConfig
from urd.data import (
    PER_IMAGE,
    Failure,
    Reading,
    Region,
    RegionsOfInterest,
    Sample,
    UnreadableImage,
    decode_all,
    decode_or_refuse,
    name_below,
    name_of,
    paint_outside,
    read_mask,
    read_regions,
    search,
)
from urd.errors import UsageError
from urd.model.header import ModelHeader
from urd.synthesis.foreground import foreground_masks
from urd.synthesis.textures import procedural_textures, split_textures
from urd.system.progress import note
from urd.system.seeding import generator
from urd.training.loop import TrainingImages

HELD_OUT = "held-out training images"  # what a calibration by `Material.holdout` says of its source
_TEXTURES_AT_LEAST, _TEXTURES_AT_MOST = 32, 320
_TEXTURE_BYTES = 256 * 2**20  # large images get fewer procedural textures
_HOLDOUT_AT_LEAST = 8


@dataclass(frozen=True)
class Material:
    """What a training consumes: images and textures, and the parts of both kept for validation.

    `region` is where all images alike are inspected, (H, W) bool; `None`: everywhere.
    """

    train: TrainingImages
    holdout: TrainingImages | None
    facts: dict[str, Any]
    failures: list[Failure]
    region: Region | None = None


def load_material(samples: list[Sample], config: FitConfig, device: torch.device) -> Material:
    """Read good images, foreground and textures; split them into training and validation.

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
    foreground, method = _foreground(images, paths, config)
    mean, std = normalisation(config.backbone)
    regions = read_regions(config.roi, config.ignore, config.image_size, Reading.of(config))
    region = None
    if regions is not None:
        images, region = _inspected(images, paths, regions, mean)
        foreground = region if foreground is None else _both(foreground, region)
    textures = read_textures(config)
    train_textures, kept_textures = split_textures(textures, generator(config.seed, "textures"))

    train_index, holdout_index = _split(len(images), config)
    chw = torch.from_numpy(images).permute(0, 3, 1, 2)

    def part(index: Tensor, of_textures: Tensor) -> TrainingImages:
        return TrainingImages(
            chw[index].to(device),
            of_textures.to(device),
            None if foreground is None else foreground[index].to(device),
            mean,
            std,
            None if region is None else region[index].to(device),
        )

    facts = {
        "fingerprint": _fingerprint(chw),
        "synthesis_fingerprint": _fingerprint(textures, foreground),
        "train_images": len(train_index),
        "holdout_images": len(holdout_index),
        "skipped": len(failures),
        "textures": len(textures),
        "foreground": method,
    }
    if regions is not None:
        facts["region_of_interest"] = PER_IMAGE if regions.folders else "one for all images"
    return Material(
        part(train_index, train_textures if len(holdout_index) else textures),
        part(holdout_index, kept_textures) if len(holdout_index) else None,
        facts,
        failures,
        regions.everywhere if regions else None,
    )


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
    images = paint_outside(images, header.region, header.mean)
    if _fingerprint(torch.from_numpy(images).permute(0, 3, 1, 2)) != header.data.get("fingerprint"):
        return []
    return [paths[kept[index]] for index in _split(len(kept), config)[1].tolist()]


def _inspected(
    images: np.ndarray, paths: list[Path], regions: RegionsOfInterest, colour: tuple[float, ...]
) -> tuple[np.ndarray, Tensor]:
    """Images painted over where they are not inspected, and where they are, (N, H, W) bool."""
    try:
        found = np.stack([regions.of(path) for path in paths])
    except UnreadableImage as error:
        raise UsageError(str(error)) from error
    painted = [paint_outside(i, r, colour) for i, r in zip(images, found, strict=True)]
    return np.stack(painted), torch.from_numpy(found)


def _both(foreground: Tensor, region: Tensor) -> Tensor:
    """Where both hold, (N, H, W) bool; of an image where they do not meet, the region."""
    both = foreground & region
    return torch.where(both.flatten(1).any(dim=1)[:, None, None], both, region)


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


def normalisation(tag: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per RGB channel with which the backbone was trained."""
    if tag == BUILTIN:
        return MEAN, STD
    pretrained = timm.get_pretrained_cfg(tag, allow_unregistered=True)
    if pretrained is None:
        return timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
    (r, g, b), (r_std, g_std, b_std) = pretrained.mean, pretrained.std
    return (r, g, b), (r_std, g_std, b_std)


def _foreground(
    images: np.ndarray, paths: list[Path], config: FitConfig
) -> tuple[Tensor | None, str]:
    if config.foreground in ("auto", "none", "otsu", "grabcut"):
        return foreground_masks(list(images), config.foreground)
    folder = Path(config.foreground)
    masks = _masks_by_name(folder) if folder.is_dir() else {}
    if not masks:
        raise UsageError(
            f"foreground is '{config.foreground}': choose auto, none, otsu or grabcut, or give a "
            "folder of mask images"
        )
    found, taken = [], dict[Path, Path]()
    for path in paths:
        mask = _mask_of(path, masks)
        if mask is None:
            raise UsageError(f"no foreground mask for {path.name} in {folder}")
        if (other := taken.setdefault(mask, path)) != path:
            raise UsageError(f"{mask} would be the foreground of {other} and of {path}")
        height, width = config.image_size
        full = torch.from_numpy(read_mask(mask, Reading.of(config)))[None, None].float()
        resized = functional.interpolate(full, (height, width), mode="area")
        found.append(resized[0, 0] >= 0.5)
    if not any(mask.any() for mask in found):
        raise UsageError(f"the foreground masks in {folder} mark nothing")
    return torch.stack(found), str(folder)


def _masks_by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in search(folder).images:
        name = name_below(path, folder).removesuffix("_mask")
        if (other := found.setdefault(name, path)) != path:
            raise UsageError(f"two foreground masks of one image: {other} and {path}")
    return found


def _mask_of(image: Path, masks: dict[str, Path]) -> Path | None:
    """By its name and the folders that it lies in, as many of them as the masks have."""
    parts = (*image.absolute().parts[1:-1], name_of(image))
    names = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((masks[name] for name in names if name in masks), None)


def read_textures(config: FitConfig) -> Tensor:
    """(K, 3, H, W) uint8; variants without synthetic anomalies need them for validation only."""
    if config.textures == "procedural":
        height, width = config.image_size
        fitting = _TEXTURE_BYTES // (3 * height * width)
        count = min(max(fitting, _TEXTURES_AT_LEAST), _TEXTURES_AT_MOST)
        of_textures = generator(config.seed, "procedural-textures")
        return procedural_textures(count, config.image_size, of_textures)
    folder = Path(config.textures)
    if not folder.is_dir():
        raise UsageError(f"no texture folder at {folder}; give a folder or 'procedural'")
    found = search(folder)
    for line in found.passed_over():
        note(f"textures: {line}")
    # A folder after the other: which texture is drawn depends on the order.
    paths = sorted(found.images, key=lambda path: (path.parent, path))
    images, _, _ = decode_or_refuse(
        paths,
        config.image_size,
        Reading.of(config),
        at_least=2,
        what=f"textures of {folder}",
        label="Textures",
    )
    return torch.from_numpy(images).permute(0, 3, 1, 2)
