"""The cosine distance of feature maps: a plain version, and one with a fast gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Dims = int | tuple[int, ...]
_EPS = 1e-8


def cosine_distance(a: Tensor, b: Tensor, dims: Dims = 1) -> Tensor:
    """1 - cosine over `dims`; 1 where `a` or `b` is zero.

    For maps (B, C, H, W), `1` gives the distance per location, (B, H, W), and `(1, 2, 3)` the
    distance of whole maps, (B,).
    """
    dot, a_square, b_square = _sums(a, b, dims)
    return 1 - dot * _inverse_norm(a_square * b_square)


def _sums(a: Tensor, b: Tensor, dims: Dims) -> tuple[Tensor, Tensor, Tensor]:
    """a b, |a|^2 and |b|^2."""
    return (a * b).sum(dims), a.square().sum(dims), b.square().sum(dims)


def _inverse_norm(squares: Tensor) -> Tensor:
    return squares.clamp_min(_EPS**2).rsqrt()


def differentiable_distance(a: Tensor, b: Tensor, dims: Dims) -> Tensor:
    """`cosine_distance`, in float32 or better for features of any precision.

    Only `a` gets a gradient: `b` is the target in all losses.
    """
    distance: Tensor = _CosineDistance.apply(a, b, dims)
    return distance


class _CosineDistance(torch.autograd.Function):
    """The gradient of -cos with respect to a is -(b / (|a| |b|) - cos a / |a|^2).

    Autograd would keep a float32 copy of every intermediate map and read the memory a dozen times.
    This class works sample by sample, so that intermediate values stay in the processor's cache.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, dims: Dims) -> Tensor:
        sums = [torch.stack(_sums(x, y, dims)) for x, y in _wide(a, b)]
        dot, a_square, b_square = torch.cat(sums, dim=1)
        norms = a_square * b_square
        scale = _inverse_norm(norms)
        ctx.save_for_backward(a, b)
        # Where tiny norms are clamped, they are constants, so the gradient has no term from |a|.
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
    """Number of samples to process at once; a GPU is fastest with all."""
    return 1 if a.device.type == "cpu" else len(a)


def _wide(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of both tensors, `_samples` at a time, in float32 or better."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    for x, y in zip(a.split(_samples(a)), b.split(_samples(a)), strict=True):
        yield x.to(dtype), y.to(dtype)
