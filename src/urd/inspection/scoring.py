"""From features to the anomaly map and the image score."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from urd.inspection.score import PAPER, Name, Score
from urd.networks.memory_bank import MemoryBank

BLUR_SIGMA = 4.0
_TRUNCATE = 4.0
Features = list[Tensor]


class Scorer(nn.Module):
    """Features of teacher and student to map (B, H, W) and image score (B,), both float32.

    Args:
        bank: needed if the score has a weight of the memory.
    """

    def __init__(self, score: Score = PAPER, bank: MemoryBank | None = None) -> None:
        super().__init__()
        self.score = score
        self.bank = bank

    def forward(
        self,
        features: tuple[Features, Features],
        size: tuple[int, int],
        roi: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The map has this `size`. Outside of `roi`, (B, H, W) bool, it is 0."""
        teacher, student = features
        parts = []
        if any(self.score.levels):
            distances = level_distances(teacher, student, self.score.name)
            parts += [w * d for w, d in zip(self.score.levels, distances, strict=True)]
        if self.score.memory:
            assert self.bank is not None
            parts.append(self.score.memory * self.bank(teacher))
        maps = blurred_sum(parts, size, roi)
        return maps, image_score(maps, self.score.top)


def level_distances(teacher: Features, student: Features, name: Name) -> Features:
    """The distance of student and teacher at each place of each level, (B, H_k, W_k) float32."""
    rule = DISTANCES[name]
    return [rule(t.float(), s.float()) for t, s in zip(teacher, student, strict=True)]


def blurred_sum(parts: Features, size: tuple[int, int], roi: Tensor | None = None) -> Tensor:
    """The sum of maps (B, h, w), upsampled to `size` and blurred; bilinear, aligned corners."""
    total = torch.zeros((), device=parts[0].device)
    for part in parts:
        total = total + functional.interpolate(
            part[:, None], size, mode="bilinear", align_corners=True
        )
    blurred = gaussian_blur(total[:, 0])
    return blurred if roi is None else blurred * roi


def image_score(maps: Tensor, top: float = 0.0) -> Tensor:
    """(B, H, W) to (B,): the mean of the share `top` of the highest values; 0: the highest one."""
    values = maps.flatten(1)
    if not top:
        return values.amax(dim=1)
    count = max(1, round(top * maps.shape[1] * maps.shape[2]))
    return values.topk(count, dim=1).values.mean(dim=1)


def cosine_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """1 - cosine per place, (B, H, W), the paper's distance; 1 where a feature is zero.

    It is half the squared distance of the unit vectors. That is the same, but 1 - cos subtracts
    two numbers near 1, and a runtime that computes in bfloat16 loses all digits of it.
    """
    unit_t, unit_s = functional.normalize(teacher, dim=1), functional.normalize(student, dim=1)
    # A zero vector stays zero when normalised. Its cosine is 0, so the distance must be 1: each
    # zero vector adds the squared length 1 that it lacks.
    absent = 2.0 - (teacher != 0).any(dim=1).float() - (student != 0).any(dim=1).float()
    return ((unit_t - unit_s).square().sum(dim=1) + absent) / 2


def weighted_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """The cosine distance times the length of the teacher's feature, relative to its mean.

    So a place counts as much as in the loss of the student, which compares whole maps.
    """
    length = teacher.norm(dim=1)
    mean = length.mean(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    return cosine_distance(teacher, student) * length / mean


def squared_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """The squared distance at each place of the whole maps, each brought to the same length.

    Its mean is 1 - cosine of the whole maps: these are the summands of the student's loss.
    """
    places = teacher.shape[2] * teacher.shape[3]
    whole_t, whole_s = (m / _length(m).clamp(min=1e-12) for m in (teacher, student))
    return places * (whole_t - whole_s).square().sum(dim=1) / 2


def _length(maps: Tensor) -> Tensor:
    return maps.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()


DISTANCES: dict[Name, Callable[[Tensor, Tensor], Tensor]] = {
    "paper": cosine_distance,
    "weighted": weighted_distance,
    "squared": squared_distance,
}


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
