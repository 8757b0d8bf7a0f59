"""Levels of the built-in backbone whose channels are not correlated within a good image.

What sets ImageNet's features apart on photographs is how many directions they use within one
image; a student that has to restore few directions restores those of defects too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from urd.backbones.builtin import BUILTIN
from urd.backbones.encoder import WhitenedEncoder
from urd.backbones.weights import NONE

SHRINKAGE = 0.01  # of the largest eigenvalue, added to all of them
OFFSET = 1.0  # deviations: the ReLU passes five values of six
_PIXELS = 240 * 256**2  # of all images together; of fewer than `_LEAST` it may be more
_PIXELS_AT_ONCE = 24 * 256**2
_LEAST = 24
_STEPS = (4, 2, 1)  # between the places that are looked at; the levels' strides are 4, 8, 16
_TINY = 1e-12


def images_wanted(height: int, width: int) -> int:
    """How many images of this size `whiten` looks at: large ones show more places each."""
    return max(_LEAST, _PIXELS // (height * width))


def wants_whitening(backbone: str, weights: str) -> bool:
    """Whether training begins with `whiten`, with `restate_norms` where a teacher learns, and with
    a learning rate of the student that rises.

    For the built-in backbone, unless it is untrained.
    """
    return backbone == BUILTIN and weights != NONE


@torch.no_grad()
def whiten(
    encoder: WhitenedEncoder,
    images: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    shrinkage: float = SHRINKAGE,
    offset: float = OFFSET,
) -> None:
    """Set W_k and b_k of an encoder by good images (N, 3, H, W) uint8.

    C is the covariance of f_k over the places of an image, each image centred and scaled to unit
    mean square, averaged over images. W = (C + shrinkage * its largest eigenvalue)^(-1/2), the
    symmetric root (ZCA), its rows scaled so that each channel has a deviation of 1 over all images;
    b brings its mean to `offset`. Of many images evenly spaced ones are looked at.
    """
    mode = encoder.training
    encoder.eval()
    found = _moments(encoder, looked_at(images, mean, std, next(encoder.parameters()).device))
    encoder.train(mode)
    for head, moments in zip(encoder.heads, found, strict=True):
        middle, spread, within = moments
        values, vectors = torch.linalg.eigh(within)
        scales = (values.clamp(min=0) + max(shrinkage * float(values[-1]), _TINY)).rsqrt()
        root = (vectors * scales) @ vectors.T
        root = root / (root @ spread @ root.T).diagonal().clamp(min=_TINY).sqrt()[:, None]
        assert isinstance(head, nn.Conv2d) and head.bias is not None
        head.weight.copy_(root[:, :, None, None])
        head.bias.copy_(offset - root @ middle)


def looked_at(
    images: Tensor, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> Iterator[Tensor]:
    """Evenly spaced ones of good images (N, 3, H, W) uint8, in batches, normalised, on `device`."""
    height, width = images.shape[2:]
    count = min(len(images), images_wanted(height, width))
    chosen = images[torch.linspace(0, len(images) - 1, count).round().long()]
    shift, scale = (torch.tensor(v, device=device)[:, None, None] for v in (mean, std))
    for batch in chosen.split(max(1, _PIXELS_AT_ONCE // (height * width))):
        normalised = (batch.to(device).float() / 255 - shift) / scale
        yield normalised.contiguous(memory_format=torch.channels_last)


def _moments(
    encoder: WhitenedEncoder, batches: Iterable[Tensor]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Of each f_k: mean (C,), covariance over all places (C, C), and C as above, in float64."""
    sums: list[Tensor] = [torch.zeros(())] * len(_STEPS)
    images = 0
    for batch in batches:
        images += len(batch)
        features = encoder.features(batch)
        for level, (found, step) in enumerate(zip(features, _STEPS, strict=True)):
            x = found[:, :, ::step, ::step].flatten(2).transpose(1, 2).cpu().double()
            centred = x - x.mean(1, keepdim=True)
            size = centred.square().mean((1, 2), keepdim=True).sqrt()
            centred = centred / size.clamp(min=_TINY)
            of_batch = torch.cat([x.mean(1).sum(0)[None], _product(x), _product(centred)])
            sums[level] = sums[level] + of_batch
    moments = []
    for total in sums:
        total = total / images
        middle, second, within = total.split([1, total.shape[1], total.shape[1]])
        moments.append((middle[0], second - middle.T @ middle, within))
    return moments


def _product(x: Tensor) -> Tensor:
    """Second moments (C, C) of (N, places, C), summed over N."""
    return torch.einsum("npc,npd->cd", x, x) / x.shape[1]
