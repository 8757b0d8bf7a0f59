"""Views of the rendered images: cut out, turned, enlarged, and seen by another camera.

Random numbers come from a CPU generator that is passed in: a step sees the same views on every
device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from urd.networks.builtin import MEAN, STD

_ZOOM = (0.3, 1.0)  # side of the cut-out, as a share of the image's
_BLUR_SIGMA = 1.2


def placements(count: int, random: torch.Generator) -> Tensor:
    """(count, 2, 3): affine maps from a view's coordinates in [-1, 1] to the image's."""
    draw = torch.rand(count, 6, generator=random)
    low, high = (math.log(z) for z in _ZOOM)
    zoom = torch.exp(low + (high - low) * draw[:, 0])
    stretch = torch.exp((draw[:, 1] - 0.5) * 0.5)
    angle = (draw[:, 2] * 4).floor() * math.pi / 2 + (draw[:, 3] - 0.5) * 0.5
    flip = torch.where(torch.rand(count, generator=random) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    wide, high_ = zoom * stretch.sqrt() * flip, zoom / stretch.sqrt()
    linear = torch.stack([wide * cos, -high_ * sin, wide * sin, high_ * cos], 1).view(-1, 2, 2)
    room = (1 - zoom)[:, None]
    shift = (draw[:, 4:6] * 2 - 1) * room
    return torch.cat([linear, shift[:, :, None]], dim=2)


def cut(images: Tensor, places: Tensor, side: int) -> Tensor:
    """Views (B, 3, side, side) in [0, 1] of images (B, 3, H, W) uint8; the outside is mirrored."""
    grid = functional.affine_grid(
        places.to(images.device), [len(images), 3, side, side], align_corners=False
    )
    return functional.grid_sample(
        images.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def photographed(views: Tensor, random: torch.Generator) -> Tensor:
    """Other light, another camera: gain and tint, contrast, saturation, gamma, blur, noise."""

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        values = low + (high - low) * torch.rand(len(views), channels, 1, 1, generator=random)
        return values.to(views.device)

    grey = views.mean(dim=1, keepdim=True)
    saturation = draw(0.4, 1.4) * (draw(0, 1) > 0.1)
    seen = grey + saturation * (views - grey)
    seen = seen * draw(0.9, 1.1, 3)
    middle = seen.mean(dim=(1, 2, 3), keepdim=True)
    seen = (middle + draw(0.6, 1.3) * (seen - middle) + draw(-0.15, 0.15)).clamp(0, 1)
    seen = seen ** draw(0.75, 1.3)
    seen = torch.lerp(seen, _blurred(seen), (draw(-1, 1)).clamp(min=0))
    noise = torch.randn(seen.shape, generator=random).to(seen.device)
    return seen + draw(0, 0.02) * noise


def normalised(views: Tensor) -> Tensor:
    mean, std = (torch.tensor(value, device=views.device).view(3, 1, 1) for value in (MEAN, STD))
    return ((views - mean) / std).contiguous(memory_format=torch.channels_last)


def _blurred(views: Tensor) -> Tensor:
    offsets = torch.arange(-3, 4, device=views.device)
    kernel = torch.exp(-0.5 * (offsets / _BLUR_SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = functional.pad(views, (3, 3, 3, 3), mode="replicate")
    along = functional.conv2d(padded, kernel, groups=3)
    return functional.conv2d(along, kernel.transpose(2, 3), groups=3)
