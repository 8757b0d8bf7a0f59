"""Whiten the levels of the built-in backbone: uncorrelated channels within a good image.

On photographs, ImageNet features use many directions of feature space within one image. If the
features use few directions, a student learns to restore those of defects, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from urd.backbones.encoder import Colour, Encoder, Pyramid

SHRINKAGE = 0.01  # of the largest eigenvalue, added to all of them
OFFSET = 1.0  # in standard deviations: the ReLU then passes about five of six values
_PIXELS = 240 * 256**2  # in all images together; `_LEAST` images may have more
_PIXELS_AT_ONCE = 24 * 256**2
_LEAST = 24
_STEPS = (4, 2, 1)  # use every n-th place of a level: with strides 4, 8, 16 all are 16 pixels apart
_TINY = 1e-12


def images_wanted(height: int, width: int) -> int:
    """How many images of this size `whiten` uses; large images have more places each."""
    return max(_LEAST, _PIXELS // (height * width))


class WhitenedEncoder(Encoder):
    """A residual network with levels ReLU(W_k f_k + b_k); W_k is a 1x1 convolution.

    f_k is the output of stage k before its last ReLU, which would drop all negative values.
    Before `whiten` sets W_k, it is the identity, and the levels are the outputs of the stages.
    A weight file does not hold W_k and b_k, because they depend on the inspected images.
    """

    def __init__(
        self, tag: str, body: nn.Module, pyramid: Pyramid, mean: Colour, std: Colour
    ) -> None:
        super().__init__(tag, body, pyramid, mean, std)
        self.heads = nn.ModuleList(_identity(stage.channels) for stage in pyramid.stages)
        for stage in self._residual_stages():
            stage[-1].act2 = nn.Identity()

    def levels(self, normalised: Tensor) -> list[Tensor]:
        features = self._features(normalised)
        return [functional.relu(w(f)) for w, f in zip(self.heads, features, strict=True)]

    def features(self, images: Tensor) -> list[Tensor]:
        """f_1, f_2, f_3 of images in [0, 1]."""
        return self._features(self.network_input(images))

    def _features(self, normalised: Tensor) -> list[Tensor]:
        body = cast(Any, self.body)
        found = []
        x = body.maxpool(body.act1(body.bn1(body.conv1(normalised))))
        for stage in self._residual_stages():
            found.append(stage(x))
            x = functional.relu(found[-1])
        return found

    @property
    def whitened(self) -> bool:
        """Whether `whiten` has set W_k."""
        weights = [cast(Tensor, head.weight).flatten(1) for head in self.heads]
        return any((w != torch.eye(len(w), device=w.device)).any() for w in weights)

    def _residual_stages(self) -> tuple[Any, Any, Any]:
        body = cast(Any, self.body)
        return body.layer1, body.layer2, body.layer3


def _identity(channels: int) -> nn.Conv2d:
    """A 1x1 convolution that returns its input."""
    conv = nn.Conv2d(channels, channels, 1)
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(cast(Tensor, conv.bias))
    return conv


@torch.no_grad()
def whiten(
    encoder: WhitenedEncoder,
    images: Tensor,
    shrinkage: float = SHRINKAGE,
    offset: float = OFFSET,
) -> None:
    """Set W_k and b_k of an encoder from good images (N, 3, H, W) uint8.

    C is the covariance of f_k over the places of an image; each image is centred and scaled to
    unit mean square, and C is the average over images. W = (C + shrinkage * largest eigenvalue of
    C)^(-1/2), the symmetric root (ZCA). Its rows are scaled so that each channel has a standard
    deviation of 1 over all images; b moves its mean to `offset`. If there are many images, evenly
    spaced ones are used.
    """
    mode = encoder.training
    encoder.eval()
    found = _moments(encoder, looked_at(images, next(encoder.parameters()).device))
    encoder.train(mode)
    for head, moments in zip(encoder.heads, found, strict=True):
        middle, spread, within = moments
        values, vectors = torch.linalg.eigh(within)
        # The added share bounds the scales, so that noise in weak directions is not blown up.
        scales = (values.clamp(min=0) + max(shrinkage * float(values[-1]), _TINY)).rsqrt()
        # Of all roots, the symmetric one keeps each channel closest to its original.
        root = (vectors * scales) @ vectors.T
        root = root / (root @ spread @ root.T).diagonal().clamp(min=_TINY).sqrt()[:, None]
        assert isinstance(head, nn.Conv2d) and head.bias is not None
        head.weight.copy_(root[:, :, None, None])
        head.bias.copy_(offset - root @ middle)


def looked_at(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Evenly spaced good images of (N, 3, H, W) uint8, in batches in [0, 1], on `device`."""
    height, width = images.shape[2:]
    count = min(len(images), images_wanted(height, width))
    chosen = images[torch.linspace(0, len(images) - 1, count).round().long()]
    for batch in chosen.split(max(1, _PIXELS_AT_ONCE // (height * width))):
        yield batch.to(device).float() / 255


def _moments(
    encoder: WhitenedEncoder, batches: Iterable[Tensor]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each f_k: mean (C,), covariance over all places (C, C), and C of `whiten`; float64."""
    sums: list[Tensor] = [torch.zeros(())] * len(_STEPS)
    images = 0
    for batch in batches:
        images += len(batch)
        features = encoder.features(batch)
        for level, (found, step) in enumerate(zip(features, _STEPS, strict=True)):
            x = found[:, :, ::step, ::step].flatten(2).transpose(1, 2).cpu().double()
            centred = x - x.mean(1, keepdim=True)
            # Scale to unit mean square, so that images of high contrast do not dominate C.
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
