"""The losses of URD, summed over the three levels with weight 1, means over the batch.

d(a, b) = 1 - cosine per location; D(a, b) = 1 - cosine of the whole flattened map. x is the clean
image, x~ the corrupted one, M the mask of the corruption; T, E, S are lists of (B, C, H, W) maps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

MaskResize = Literal["chained", "direct"]
_EPS = 1e-8


def cosine_distance(a: Tensor, b: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """1 - cosine over `dims`: `1` gives d per location (B, H, W), `(1, 2, 3)` gives D, (B,).

    Computed in float32 or better, whatever the precision of the features. The gradient goes to `a`
    only: `b` is what the losses compare with.
    """
    distance: Tensor = _CosineDistance.apply(a, b, dims)
    return distance


class _CosineDistance(torch.autograd.Function):
    """With a = |a|, b = |b|: gradient of -cos by a is -(b / (|a| |b|) - cos a / |a|^2).

    Autograd would keep a float32 copy of every intermediate map and pass over memory a dozen times;
    this goes sample by sample, so that intermediate values stay in the processor's cache.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, dims: int | tuple[int, ...]) -> Tensor:
        sums = [
            torch.stack([(x * y).sum(dims), x.square().sum(dims), y.square().sum(dims)])
            for x, y in _wide(a, b)
        ]
        dot, a_square, b_square = torch.cat(sums, dim=1)
        norms = a_square * b_square
        scale = norms.clamp_min(_EPS**2).rsqrt()
        ctx.save_for_backward(a, b)
        # Where the clamp holds, the norms are constants.
        ctx.scale = scale
        ctx.slope = torch.where(norms > _EPS**2, dot * scale / a_square, 0.0)
        ctx.dims = (dims,) if isinstance(dims, int) else dims
        return 1 - dot * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        a, b = ctx.saved_tensors
        of_a, of_b = gradient * ctx.slope, -gradient * ctx.scale
        for dim in ctx.dims:
            of_a, of_b = of_a.unsqueeze(dim), of_b.unsqueeze(dim)
        found = torch.empty_like(a)
        step = _samples(a)
        for out, u, v, (x, y) in zip(
            found.split(step), of_a.split(step), of_b.split(step), _wide(a, b), strict=True
        ):
            out.copy_(torch.addcmul(u * x, v, y))
        return found, None, None


def _samples(a: Tensor) -> int:
    """How many samples are worked on at once: a GPU wants all."""
    return 1 if a.device.type == "cpu" else len(a)


def _wide(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Both, a few samples at a time, in float32 or better."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    for x, y in zip(a.split(_samples(a)), b.split(_samples(a)), strict=True):
        yield x.to(dtype), y.to(dtype)


def local_distance(a: Tensor, b: Tensor) -> Tensor:
    """d(a, b), (B, H, W)."""
    return cosine_distance(a, b, 1)


def global_distance(a: Tensor, b: Tensor) -> Tensor:
    """D(a, b), (B,)."""
    return cosine_distance(a, b, (1, 2, 3))


def mask_pyramid(
    mask: Tensor, sizes: list[tuple[int, int]], resize: MaskResize = "chained"
) -> list[Tensor]:
    """M_k: the mask (B, 1, H, W) at each level's size, (B, H_k, W_k), 0 or 1.

    `chained` resizes from level to level with a threshold of one half after each step, as the
    published experiments did, which erases small defects at the coarse levels; `direct` resizes
    the full mask each time.
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
        loss = loss + global_distance(t_x, e_x).mean()
    return loss


def student_loss(
    s_clean: list[Tensor],
    s_corrupt: list[Tensor],
    t_clean: list[Tensor],
    e_clean: list[Tensor],
) -> Tensor:
    """D(S(x), T(x)) + D(S(x~), T(x)) + D(S(x), E(x)) + D(S(x~), E(x)), summed over levels.

    The terms of x~ make the student answer abnormal input with normal features.
    """
    targets = (t_clean, e_clean)
    return sum(
        (reverse_distillation_loss(s, target) for s in (s_clean, s_corrupt) for target in targets),
        start=torch.zeros((), device=s_clean[0].device),
    )


def reverse_distillation_loss(student: list[Tensor], target: list[Tensor]) -> Tensor:
    """D(S(x), T(x)) summed over levels: the loss of plain reverse distillation (RD)."""
    distances = [global_distance(s, t).mean() for s, t in zip(student, target, strict=True)]
    return torch.stack(distances).sum()
