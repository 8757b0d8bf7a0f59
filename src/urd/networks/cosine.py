"""The cosine distance of feature maps, 1 - cosine, with fast gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_EPS = 1e-8


def local_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine per place, (B, H, W), in float32 or better for any precision; 1 where one is zero.

    Only `a` gets a gradient: `b` is the target in all losses.
    """
    distance: Tensor = _LocalDistance.apply(a, b)
    return distance


def global_distances(moving: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
    """1 - cosine of whole maps: (B, M, F), of each of M `moving` maps to each of F `fixed`.

    All maps have one shape (B, C, H, W). Only `moving` ones get a gradient.
    """
    distances: Tensor = _GlobalDistances.apply(len(moving), *moving, *fixed)
    return distances


class _LocalDistance(torch.autograd.Function):
    """The gradient of -cos with respect to a is -(b / (|a| |b|) - cos a / |a|^2).

    Autograd would keep a float32 copy of every intermediate map and read the memory a dozen times.
    On a CPU, this class works sample by sample, so that intermediate values stay in its cache. A
    GPU is fastest with all samples at once, and converts values as it reads them.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        if _at_once(a):
            dot, a_square, b_square = _sums_at_once(a, b)
        else:
            sums = [torch.stack(_sums(x, y)) for x, y in _wide(a, b)]
            dot, a_square, b_square = torch.cat(sums, dim=1)
        norms = a_square * b_square
        scale = _inverse_norm(norms)
        ctx.save_for_backward(a, b)
        # Where tiny norms are clamped, they are constants, so the gradient has no term from |a|.
        ctx.scale = scale
        ctx.slope = _unless_clamped(dot * scale / a_square, norms)
        return 1 - dot * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        a, b = ctx.saved_tensors
        of_a, of_b = (gradient * ctx.slope)[:, None], (-gradient * ctx.scale)[:, None]
        found = torch.empty_like(a)
        if _at_once(a):
            return torch.addcmul(of_a * a, of_b, b, out=found), None
        for out, u, v, (x, y) in zip(
            found.split(1), of_a.split(1), of_b.split(1), _wide(a, b), strict=True
        ):
            out.copy_(torch.addcmul(u * x, v, y))
        return found, None


def _sums(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a b, |a|^2 and |b|^2 per place."""
    return (a * b).sum(1), a.square().sum(1), b.square().sum(1)


def _sums_at_once(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_sums`, in float32 or better, without copies of `a` and of the squares."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    squares = (torch.linalg.vector_norm(x, dim=1, dtype=dtype).square() for x in (a, b))
    return (a * b.to(dtype)).sum(1), *squares


def _inverse_norm(squares: Tensor) -> Tensor:
    return squares.clamp_min(_EPS**2).rsqrt()


def _unless_clamped(slope: Tensor, norms: Tensor) -> Tensor:
    """The slope, 0 where `norms` is clamped."""
    return slope.masked_fill(~(norms > _EPS**2), 0.0)


class _GlobalDistances(torch.autograd.Function):
    """All distances between K maps of one sample come from one product: (K, n) times (n, K).

    So does their gradient: a weighted sum of the K maps. This needs a quarter of the operations
    that pairs need, and so fewer moments at which the threads of an operation wait for each other.
    """

    @staticmethod
    def forward(ctx: Any, count: int, *maps: Tensor) -> Tensor:
        gram = torch.cat([rows @ rows.mT for rows in _rows(maps)])
        gram = gram.unflatten(0, (len(maps[0]), -1)).sum(1)
        squares = gram.diagonal(dim1=1, dim2=2)
        norms = squares[:, :count, None] * squares[:, None, count:]
        scale = _inverse_norm(norms)
        dot = gram[:, :count, count:]
        ctx.save_for_backward(*maps)
        ctx.scale = scale
        ctx.slope = _unless_clamped(dot * scale / squares[:, :count, None], norms)
        return 1 - dot * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps = ctx.saved_tensors
        count = gradient.shape[1]
        own = torch.diag_embed((gradient * ctx.slope).sum(dim=2))
        weights = torch.cat([own, -gradient * ctx.scale], dim=2)
        found = [torch.empty_like(a) for a in maps[:count]]
        step, parts = _samples(maps[0]), _parts(maps[0])
        pieces = zip(*(_flat(a).split(step) for a in found), strict=True)
        for outs, weight, rows in zip(pieces, weights.split(step), _rows(maps), strict=True):
            of_rows = weight[:, None].expand(-1, parts, -1, -1).flatten(0, 1)
            for out, summed in zip(outs, (of_rows @ rows).unbind(1), strict=True):
                out.copy_(summed.view_as(out))
        return None, *found, *[None] * (len(maps) - count)


def _at_once(a: Tensor) -> bool:
    """Whether all samples are processed together, as on a GPU."""
    return a.device.type != "cpu"


def _samples(a: Tensor) -> int:
    """Number of samples to process at once."""
    return len(a) if _at_once(a) else 1


def _parts(a: Tensor) -> int:
    """Number of parts of each sample's product: a GPU needs many to be busy, one for each row."""
    return a.shape[2] if _at_once(a) else 1


def _wide(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The samples of both tensors, in float32 or better."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    for x, y in zip(a.split(1), b.split(1), strict=True):
        yield x.to(dtype), y.to(dtype)


def _rows(maps: Sequence[Tensor]) -> Iterator[Tensor]:
    """K maps (B, C, H, W) as rows (b, K, n), `_samples` at a time, in float32 or better.

    With P `_parts` it is (b P, K, n / P). Each piece overwrites the one before, so that all stay in
    the processor's cache.
    """
    step, parts = _samples(maps[0]), _parts(maps[0])
    dtype = torch.promote_types(maps[0].dtype, torch.float32)
    shape = (step * parts, len(maps), maps[0][0].numel() // parts)
    rows = torch.empty(shape, dtype=dtype, device=maps[0].device)
    for pieces in zip(*(_flat(m).split(step) for m in maps), strict=True):
        for index, piece in enumerate(pieces):
            of_piece = piece.flatten(0, 1) if parts > 1 else piece
            rows[:, index].view_as(of_piece).copy_(of_piece)
        yield rows


def _flat(maps: Tensor) -> Tensor:
    """The same values as (B, H, W, C), which is the order in memory of channels-last maps."""
    return maps.permute(0, 2, 3, 1)
