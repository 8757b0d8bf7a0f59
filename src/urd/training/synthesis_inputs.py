"""The inputs of synthetic anomalies: where they are painted, and their textures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from urd.config import FitConfig
from urd.data import Reading, decode_or_refuse, name_below, name_of, read_mask, search
from urd.errors import UsageError
from urd.synthesis.foreground import foreground_masks
from urd.synthesis.textures import procedural_textures
from urd.system.progress import note
from urd.system.seeding import generator

_TEXTURES_AT_LEAST, _TEXTURES_AT_MOST = 32, 320
_TEXTURE_BYTES = 256 * 2**20  # large images get fewer procedural textures


def find_foreground(
    images: np.ndarray, paths: list[Path], config: FitConfig
) -> tuple[Tensor | None, str]:
    """Where anomalies are painted, (N, H, W) bool or `None` for everywhere, and the method.

    Args:
        images: (N, H, W, 3) uint8, from the files `paths`.

    Raises:
        UsageError: the method is unknown, or the folder of masks does not fit the images.
    """
    if config.foreground in ("auto", "none", "otsu", "grabcut"):
        return foreground_masks(list(images), config.foreground)
    folder = Path(config.foreground)
    masks = _masks_by_name(folder) if folder.is_dir() else {}
    if not masks:
        raise UsageError(
            f"foreground cannot be '{config.foreground}': choose auto, none, otsu or grabcut, or "
            "give a folder of mask images"
        )
    found, taken = [], dict[Path, Path]()
    for path in paths:
        mask = _mask_of(path, masks)
        if mask is None:
            raise UsageError(f"no foreground mask for {path.name} in {folder}")
        if (other := taken.setdefault(mask, path)) != path:
            raise UsageError(f"{mask} is the foreground mask of two images: {other} and {path}")
        height, width = config.image_size
        full = torch.from_numpy(read_mask(mask, Reading.of(config)))[None, None].float()
        resized = functional.interpolate(full, (height, width), mode="area")
        found.append(resized[0, 0] >= 0.5)
    if not any(mask.any() for mask in found):
        raise UsageError(f"all foreground masks in {folder} are empty")
    return torch.stack(found), str(folder)


def _masks_by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in search(folder).images:
        name = name_below(path, folder).removesuffix("_mask")
        if (other := found.setdefault(name, path)) != path:
            raise UsageError(f"two foreground masks of one image: {other} and {path}")
    return found


def _mask_of(image: Path, masks: dict[str, Path]) -> Path | None:
    """The mask with the image's name below as many of its parent folders as possible."""
    parts = (*image.absolute().parts[1:-1], name_of(image))
    names = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((masks[name] for name in names if name in masks), None)


def read_textures(config: FitConfig) -> Tensor:
    """Read or make the textures, (K, 3, H, W) uint8.

    Variants without expert need them only for validation.

    Raises:
        UsageError: the folder is missing, or fewer than two textures can be read.
    """
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
    # Sort by folder, then by name: the order decides which texture an iteration draws.
    paths = sorted(found.images, key=lambda path: (path.parent, path))
    images, *_ = decode_or_refuse(
        paths,
        config.image_size,
        Reading.of(config),
        at_least=2,
        what=f"textures of {folder}",
        label="Textures",
    )
    return torch.from_numpy(images).permute(0, 3, 1, 2)
