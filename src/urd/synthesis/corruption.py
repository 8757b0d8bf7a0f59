"""Corrupting good images: x~ = x (1 - M) + (1 - b) A M + b x M (Zavrtanik et al., ICCV 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from urd.synthesis.perlin import draw_perlin, perlin_noise

NOISE_THRESHOLD = 0.5
MAX_BLEND = 0.8
_REDRAWS = 20


@dataclass(frozen=True)
class Corruption:
    """The random choices for B images.

    Attributes:
        mask: (B, 1, H, W), 1 where the image is corrupted, never empty.
        texture_index: (B,), the number of the texture.
        blend: (B, 1, 1, 1), b in [0, 0.8), the share of the image that stays visible.
    """

    mask: Tensor
    texture_index: Tensor
    blend: Tensor


def draw_corruption(
    foreground: Tensor | None,
    size: tuple[int, int],
    count: int,
    texture_count: int,
    generator: torch.Generator,
    device: torch.device,
) -> Corruption:
    """Draw masks, textures and blends for `count` images of `size` (H, W).

    All random numbers come from `generator`, on the CPU: the same seed gives the same draw on
    every device.

    Args:
        foreground: (count, H, W) bool on `device`, where anomalies may be. They may be everywhere
            if it is `None`, and in an image whose foreground is empty.
    """
    mask = _draw_masks(foreground, size, count, generator, device)
    texture_index = torch.randint(texture_count, (count,), generator=generator)
    blend = torch.rand(count, generator=generator) * MAX_BLEND
    return Corruption(mask, texture_index.to(device), blend.to(device)[:, None, None, None])


def corrupt(clean: Tensor, textures: Tensor, corruption: Corruption) -> Tensor:
    """Blend textures into clean images; all (B, 3, H, W) float in [0, 1]."""
    m, b = corruption.mask, corruption.blend
    return clean * (1 - m) + ((1 - b) * textures + b * clean) * m


def _draw_masks(
    foreground: Tensor | None,
    size: tuple[int, int],
    count: int,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """(count, 1, H, W) float masks; an empty mask teaches nothing, so it is drawn again."""
    masks = torch.zeros(count, *size, dtype=torch.bool, device=device)
    allowed = torch.ones_like(masks)
    if foreground is not None:
        allowed = foreground | ~foreground.flatten(1).any(dim=1)[:, None, None]
    todo = torch.arange(count, device=device)
    for _ in range(_REDRAWS + 1):
        noise = perlin_noise(draw_perlin(len(todo), generator).to(device), *size)
        drawn = (noise > NOISE_THRESHOLD) & allowed[todo]
        masks[todo] = drawn
        todo = todo[~drawn.flatten(1).any(dim=1)]
        if len(todo) == 0:
            break
    masks[todo] = allowed[todo]  # the foreground is so small that no draw has hit it: use all of it
    return masks[:, None].float()
