"""From features to the anomaly map and the image score."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from urd.networks.cosine import cosine_distance

BLUR_SIGMA = 4.0
_TRUNCATE = 4.0


def anomaly_map(
    teacher: list[Tensor],
    student: list[Tensor],
    size: tuple[int, int],
    roi: Tensor | None = None,
    distance: Callable[[Tensor, Tensor], Tensor] = cosine_distance,
) -> Tensor:
    """Sum over levels of 1 - cos(S_k, T_k), upsampled to `size` and blurred, (B, H, W) float32.

    Before the blur each pixel is in [0, 6]. Upsampling is bilinear with aligned corners. Outside of
    `roi`, (B, H, W) bool, the map is 0. `distance` is `cosine_distance` or another form of it.
    """
    total = torch.zeros((), device=teacher[0].device)
    for t, s in zip(teacher, student, strict=True):
        level = distance(s.float(), t.float())[:, None]
        total = total + functional.interpolate(level, size, mode="bilinear", align_corners=True)
    blurred = gaussian_blur(total[:, 0])
    return blurred if roi is None else blurred * roi


def image_score(maps: Tensor) -> Tensor:
    """The largest value of each map: (B, H, W) to (B,)."""
    return maps.flatten(1).amax(dim=1)


def gaussian_blur(maps: Tensor, sigma: float = BLUR_SIGMA) -> Tensor:
    """Blur (B, H, W) maps as `scipy.ndimage.gaussian_filter` does by default.

    Borders are padded by reflection that repeats the edge pixel. The kernel ends at 4 sigma. Both
    are in one matrix per axis, so the blur is two matrix products, without padding.
    """
    rows = _blur_matrix(maps.shape[1], sigma).to(maps)
    columns = _blur_matrix(maps.shape[2], sigma).to(maps)
    return rows @ maps @ columns.T


@lru_cache(maxsize=16)
def _blur_matrix(length: int, sigma: float) -> Tensor:
    """(length, length) float64: row i has the weight of each pixel in the blurred pixel i."""
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    kernel /= math.fsum(kernel.tolist())
    source = torch.arange(length)[:, None] + offsets
    # A signal reflected with its edge pixel repeats every 2 * length pixels. The second half of a
    # period is the first half backwards, so every kernel position maps to a pixel.
    source = source % (2 * length)
    source = torch.where(source < length, source, 2 * length - 1 - source)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, source, kernel.expand(length, -1))
