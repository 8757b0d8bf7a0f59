"""Textures to blend into good images, generated here, so that nothing is downloaded.

The families look very different (noise, stripes, cells, tiles, weave, grain, blotches, bubbles);
each has random colours. All tensors are (N, 3, H, W) uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from urd.synthesis.perlin import draw_perlin, perlin_noise

Size = tuple[int, int]


def procedural_textures(count: int, size: Size, generator: torch.Generator) -> Tensor:
    """`count` textures of `size` (H, W); the families take turns."""
    images = []
    for index in range(count):
        pattern = _FAMILIES[index % len(_FAMILIES)](size, generator)
        images.append(_colour(pattern, generator))
    return torch.stack(images)


def split_textures(textures: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split textures into training and validation: a random fifth is for validation.

    A single texture is used for both.
    """
    if len(textures) < 2:
        return textures, textures
    order = torch.randperm(len(textures), generator=generator)
    kept = max(1, len(textures) // 5)
    return textures[order[kept:]], textures[order[:kept]]


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _colour(pattern: Tensor, generator: torch.Generator) -> Tensor:
    """Colour a pattern in [0, 1] by a gradient of four random colours, (3, H, W) uint8."""
    palette = torch.rand(4, 3, generator=generator)
    grey = palette.mean(dim=1, keepdim=True)  # photographs are less saturated than random colours
    palette = torch.lerp(grey, palette, _uniform(0, 1, generator))
    position = pattern.clamp(0, 1) * (len(palette) - 1)
    lower = position.floor().long().clamp(max=len(palette) - 2)
    weight = (position - lower)[..., None]
    rgb = palette[lower] * (1 - weight) + palette[lower + 1] * weight
    grain = 0.03 * torch.randn(pattern.shape, generator=generator)[..., None]
    return ((rgb + grain).clamp(0, 1) * 255).round().byte().permute(2, 0, 1)


def _coordinates(size: Size, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rotated pixel coordinates, slightly warped by Perlin noise."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    angle = _uniform(0, math.pi, generator)
    warp = _uniform(0, 12, generator) * perlin_noise(draw_perlin(2, generator), *size)
    u = math.cos(angle) * x + math.sin(angle) * y + warp[0]
    v = math.cos(angle) * y - math.sin(angle) * x + warp[1]
    return u, v


def _cloud(size: Size, generator: torch.Generator) -> Tensor:
    noise = perlin_noise(draw_perlin(5, generator), *size)
    weights = 0.6 ** torch.arange(5)[:, None, None]
    return 0.5 + 0.6 * (noise * weights).sum(0)


def _stripes(size: Size, generator: torch.Generator) -> Tensor:
    u, _ = _coordinates(size, generator)
    wave = torch.sin(u * (2 * math.pi / _uniform(4, 40, generator)))
    return 0.5 + 0.5 * torch.tanh(wave * _uniform(0.5, 6, generator))


def _tiles(size: Size, generator: torch.Generator) -> Tensor:
    u, v = _coordinates(size, generator)
    period = _uniform(8, 48, generator)
    column, row = (u / period).floor(), (v / period).floor()
    # The usual hash of shader code: a fixed "random" shade for each tile.
    shade = torch.sin(column * 12.9898 + row * 78.233) * 43758.5453
    joint = ((u % period) < 0.1 * period) | ((v % period) < 0.1 * period)
    return torch.where(joint, torch.zeros(()), 0.2 + 0.8 * (shade - shade.floor()))


def _cells(size: Size, generator: torch.Generator) -> Tensor:
    """Worley noise: distance to the nearest and the second nearest of random points."""
    count = int(_uniform(12, 120, generator))
    points = torch.rand(count, 2, generator=generator) * torch.tensor(size)
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    pixels = torch.stack([y, x], dim=-1).reshape(-1, 2).float()
    nearest = torch.cdist(pixels, points).topk(2, largest=False).values.reshape(*size, 2)
    scale = math.sqrt(size[0] * size[1] / count)
    return ((nearest[..., 1] - nearest[..., 0]) if count % 2 else nearest[..., 0]) / scale


def _weave(size: Size, generator: torch.Generator) -> Tensor:
    u, v = _coordinates(size, generator)
    period = _uniform(5, 24, generator)
    over = ((u / period).floor() + (v / period).floor()) % 2
    warp, weft = (
        torch.sin(math.pi * (u % period) / period),
        torch.sin(math.pi * (v % period) / period),
    )
    return torch.where(over > 0, 0.3 + 0.7 * warp, 0.7 * weft)


def _grain(size: Size, generator: torch.Generator) -> Tensor:
    coarse = int(_uniform(1, 6, generator))
    small = torch.rand(1, 1, size[0] // coarse + 1, size[1] // coarse + 1, generator=generator)
    return functional.interpolate(small, size, mode="bilinear", align_corners=False)[0, 0]


def _blotches(size: Size, generator: torch.Generator) -> Tensor:
    levels = int(_uniform(2, 6, generator))
    return (_cloud(size, generator).clamp(0, 1) * levels).round() / levels


def _bubbles(size: Size, generator: torch.Generator) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    image = torch.zeros(size)
    for _ in range(int(_uniform(20, 80, generator))):
        cy, cx = _uniform(0, size[0], generator), _uniform(0, size[1], generator)
        radius = _uniform(0.01, 0.12, generator) * min(size)
        distance = ((y - cy) ** 2 + (x - cx) ** 2).sqrt() / radius
        image = torch.where(distance < 1, 0.2 + 0.8 * distance**2, image)
    return image


_FAMILIES: tuple[Callable[[Size, torch.Generator], Tensor], ...] = (
    _cloud,
    _stripes,
    _cells,
    _tiles,
    _weave,
    _grain,
    _blotches,
    _bubbles,
)
