"""Levels whose channels are not correlated within an image.

What sets ImageNet's features apart on photographs is how many directions they use within one
image; a student that has to restore few directions restores those of defects too.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pretraining.views import normalised
from urd.networks.encoder import WhitenedEncoder

_BATCH = 24
_STEPS = (4, 2, 1)  # between the places that are looked at; the levels' strides are 4, 8, 16


@torch.inference_mode()
def whiten(
    encoder: WhitenedEncoder, images: NDArray[np.uint8], shrinkage: float, offset: float
) -> None:
    """Set W_k and b_k by the images (N, H, W, 3).

    C is the covariance of f_k over the places of an image, each image centred and scaled to unit
    mean square, averaged over images. W = (C + shrinkage * its largest eigenvalue)^(-1/2), the
    symmetric root (ZCA), its rows scaled so that each channel has a deviation of 1 over all images;
    b brings its mean to `offset`: the ReLU then passes three quarters of the values at 0.7.
    """
    for head, moments in zip(encoder.heads, _moments(encoder, images), strict=True):
        mean, spread, within = moments
        values, vectors = torch.linalg.eigh(within)
        scales = (values.clamp(min=0) + shrinkage * values.max()).rsqrt()
        root = (vectors * scales) @ vectors.T
        root = root / (root @ spread @ root.T).diagonal().clamp(min=1e-12).sqrt()[:, None]
        assert isinstance(head, nn.Conv2d) and head.bias is not None
        head.weight.copy_(root[:, :, None, None].half())
        head.bias.copy_(offset - root @ mean)


def _moments(
    encoder: WhitenedEncoder, images: NDArray[np.uint8]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Of each f_k: mean (C,), covariance over all places (C, C), and C as above, in float64."""
    device = next(encoder.parameters()).device
    sums: list[Tensor] = [torch.zeros(())] * len(_STEPS)
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(np.array(images[start : start + _BATCH]))
        pixels = normalised(batch.permute(0, 3, 1, 2).float() / 255).to(device)
        for level, (features, step) in enumerate(
            zip(encoder.features(pixels), _STEPS, strict=True)
        ):
            x = features[:, :, ::step, ::step].flatten(2).transpose(1, 2).double().cpu()
            centred = x - x.mean(1, keepdim=True)
            centred = centred / centred.square().mean((1, 2), keepdim=True).sqrt()
            of_batch = torch.cat([x.mean(1).sum(0)[None], _product(x), _product(centred)])
            sums[level] = sums[level] + of_batch / len(images)
    moments = []
    for total in sums:
        mean, second, within = total.split([1, total.shape[1], total.shape[1]])
        moments.append((mean[0], second - mean.T @ mean, within))
    return moments


def _product(x: Tensor) -> Tensor:
    """Second moments (C, C) of (N, places, C), summed over N."""
    return torch.einsum("npc,npd->cd", x, x) / x.shape[1]
