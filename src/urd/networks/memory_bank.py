"""A memory bank: features of good images, and the distance of other features to the nearest.

The idea is that of PatchCore (Roth et al., CVPR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from urd.backbones.encoder import Pyramid

_AT_ONCE = 1024  # places; times 4,096 features they need 17 MB
_LEVELS = (1, 2)  # levels 2 and 3: level 1 is too plain, and has four times as many places


class MemoryBank(nn.Module):
    """Features of M good places with D values each, around their mean.

    Args:
        places, width: M and D; `of` fills the bank, or a model file does.
    """

    mean: Tensor
    features: Tensor
    squared_lengths: Tensor

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("features", torch.zeros(places, width))
        self.register_buffer("squared_lengths", torch.zeros(places))

    @classmethod
    def of(cls, features: Tensor) -> MemoryBank:
        """A bank of features (M, D), on their device."""
        bank = cls(*features.shape).to(features.device)
        bank.mean = features.mean(dim=0)
        bank.features = features - bank.mean
        bank.squared_lengths = bank.features.square().sum(dim=1)
        return bank

    def forward(self, levels: list[Tensor]) -> Tensor:
        """The teacher's levels to the Euclidean distance of each place of level 2, (B, h, w)."""
        places = features_of_places(levels) - self.mean
        flat = places.flatten(0, 2)
        # A file for other programs has no loop; here, memory is for one part of the places only.
        parts = [flat] if torch.compiler.is_exporting() else flat.split(_AT_ONCE)
        nearest = torch.cat([self._nearest(part) for part in parts])
        return (flat.square().sum(dim=1) + nearest).clamp(min=0).sqrt().view(places.shape[:3])

    def _nearest(self, asked: Tensor) -> Tensor:
        """The smallest |b|^2 - 2 a b over the bank, for each a of (m, D).

        With |a|^2 it is |a - b|^2. Around the mean these terms are smallest, so that least is lost
        to rounding.
        """
        return torch.addmm(self.squared_lengths, asked, self.features.T, alpha=-2).amin(dim=1)


def features_of_places(levels: list[Tensor]) -> Tensor:
    """Levels 2 and 3 as one vector for each place of level 2, (B, h, w, D), in float32.

    Each value is the mean of 3x3 places, so that a place also knows its surroundings. Outside the
    image are zeros, as in PatchCore. A mean of the fewer places at the border would vary more, and
    good images would have their highest distance there.
    """
    means = [functional.avg_pool2d(levels[k].float(), 3, 1, 1) for k in _LEVELS]
    size = means[0].shape[2:]
    same = [means[0]] + [
        functional.interpolate(m, (size[0], size[1]), mode="bilinear", align_corners=False)
        for m in means[1:]
    ]
    return torch.cat(same, dim=1).permute(0, 2, 3, 1)


def width_of(pyramid: Pyramid) -> int:
    """D for the levels of an encoder."""
    return sum(pyramid.stages[k].channels for k in _LEVELS)
