"""The losses of URD, summed over the three levels with weight 1, means over the batch.

d(a, b) = 1 - cosine per location; D(a, b) = 1 - cosine of the whole flattened map. x is the clean
image, x~ the corrupted one, M the mask of the corruption; T, E, S are lists of (B, C, H, W) maps.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from urd.networks.cosine import global_distances, local_distance

MaskResize = Literal["chained", "direct"]


def mask_pyramid(
    mask: Tensor, sizes: list[tuple[int, int]], resize: MaskResize = "chained"
) -> list[Tensor]:
    """M_k: the mask (B, 1, H, W) at each level's size, (B, H_k, W_k), 0 or 1.

    `chained` resizes from level to level with a threshold of one half after each step, as in the
    published experiments; small defects vanish at the coarse levels. `direct` resizes the full
    mask each time.
    """
    levels, source = [], mask
    for size in sizes:
        resized = functional.interpolate(source, size, mode="bilinear", align_corners=False)
        level = (resized >= 0.5).to(mask.dtype)
        levels.append(level[:, 0])
        if resize == "chained":
            source = level
    return levels


def teacher_loss(
    t_clean: list[Tensor],
    t_corrupt: list[Tensor],
    e_clean: list[Tensor],
    e_corrupt: list[Tensor],
    masks: list[Tensor],
) -> Tensor:
    """mean d(T(x), E(x)) + mean |d(T(x~), E(x)) - M_k| + D(T(x~), E(x~)), summed over levels."""
    loss = torch.zeros((), device=masks[0].device)
    for t, t_x, e, e_x, m in zip(t_clean, t_corrupt, e_clean, e_corrupt, masks, strict=True):
        loss = loss + local_distance(t, e).mean()
        loss = loss + (local_distance(t_x, e) - m).abs().mean()
        loss = loss + global_distances([t_x], [e_x]).mean()
    return loss


def student_loss(
    s_clean: list[Tensor],
    s_corrupt: list[Tensor],
    t_clean: list[Tensor],
    e_clean: list[Tensor],
) -> Tensor:
    """D(S(x), T(x)) + D(S(x~), T(x)) + D(S(x), E(x)) + D(S(x~), E(x)), summed over levels.

    The terms of x~ teach the student to give normal features for abnormal input.
    """
    levels = zip(s_clean, s_corrupt, t_clean, e_clean, strict=True)
    return torch.stack([_summed([s, s_x], [t, e]) for s, s_x, t, e in levels]).sum()


def reverse_distillation_loss(student: list[Tensor], target: list[Tensor]) -> Tensor:
    """D(S(x), T(x)) summed over levels: the loss of plain reverse distillation (RD)."""
    levels = zip(student, target, strict=True)
    return torch.stack([_summed([s], [t]) for s, t in levels]).sum()


def _summed(moving: list[Tensor], fixed: list[Tensor]) -> Tensor:
    """The sum of D of each pair, mean over the batch."""
    return global_distances(moving, fixed).mean(dim=0).sum()
