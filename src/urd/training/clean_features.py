"""Keep the expert's features of the good images, which are the same in every epoch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from urd.system.machine import free_memory

_SHARE = 0.25  # of the memory that is free
_LIMIT = 4 << 30  # bytes


class CleanFeatures:
    """Compute the features of an image when a batch first has it; keep them if all fit in memory.

    New features are always computed for a whole training batch. So the results depend neither on
    the memory of the machine nor on where a run was stopped and resumed.
    """

    def __init__(self, expert: nn.Module, images: int) -> None:
        self.expert = expert
        self.known = torch.zeros(images, dtype=torch.bool)
        self.levels: list[Tensor] | None = None  # each (images, H, W, C)
        self.fits = True

    def __call__(self, index: Tensor, clean: Tensor) -> list[Tensor]:
        """Features (B, C, H, W) of the images `clean` (B, 3, H, W) with the numbers `index`."""
        places = index.cpu()
        if self.levels is not None and self.known[places].all():
            return [level[index].permute(0, 3, 1, 2) for level in self.levels]
        features: list[Tensor] = self.expert(clean)
        if self.levels is None and self.fits:
            self._make_room(features)
        if self.levels is not None:
            for level, found in zip(self.levels, features, strict=True):
                level[index] = found.permute(0, 2, 3, 1)
            self.known[places] = True
        return features

    def _make_room(self, features: list[Tensor]) -> None:
        of_one = sum(f[0].numel() * f.element_size() for f in features)
        free = free_memory(features[0].device)
        self.fits = of_one * len(self.known) <= min(_SHARE * free, _LIMIT)
        if self.fits:
            self.levels = [
                f.new_empty(len(self.known), f.shape[2], f.shape[3], f.shape[1]) for f in features
            ]
