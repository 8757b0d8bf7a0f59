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
        self.complete = False

    def __call__(self, index: Tensor, clean: Tensor) -> list[Tensor]:
        """Features (B, C, H, W) of the images `clean` (B, 3, H, W) with the numbers `index`."""
        if self.complete:
            return self._kept(index)
        if not self.fits:
            return self._computed(clean)
        places = index.cpu()
        if self.levels is not None and self.known[places].all():
            return self._kept(index)
        features = self._computed(clean)
        if self.levels is None and self.fits:
            self._make_room(features)
        if self.levels is not None:
            for level, found in zip(self.levels, features, strict=True):
                level[index] = found.permute(0, 2, 3, 1)
            self.known[places] = True
        return features

    @torch.no_grad()
    def compute_all(self, images: Tensor, batch_size: int) -> None:
        """Compute the features of all images (N, 3, H, W) uint8 now, if they fit in memory.

        After that no call waits for the device of the images, as it does while some are unknown.
        """
        for start in range(0, len(images), batch_size):
            index = torch.arange(start, start + batch_size) % len(images)  # whole batches only
            self(index.to(images.device), images[index.to(images.device)].float() / 255)
            if not self.fits:
                return
        self.complete = True

    def _kept(self, index: Tensor) -> list[Tensor]:
        assert self.levels is not None
        return [level[index].permute(0, 3, 1, 2) for level in self.levels]

    def _computed(self, clean: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.expert(clean)
        return features

    def _make_room(self, features: list[Tensor]) -> None:
        of_one = sum(f[0].numel() * f.element_size() for f in features)
        device = features[0].device
        most = _SHARE * free_memory(device)
        if device.type == "cpu":  # other programs need its memory, too
            most = min(most, _LIMIT)
        self.fits = of_one * len(self.known) <= most
        if self.fits:
            self.levels = [
                f.new_empty(len(self.known), f.shape[2], f.shape[3], f.shape[1]) for f in features
            ]
