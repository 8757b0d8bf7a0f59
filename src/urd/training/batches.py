"""The batch of an iteration: its images, and how they are corrupted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from urd.config import FitConfig
from urd.synthesis.corruption import Corruption, draw_corruption
from urd.system.seeding import generator
from urd.training.training_data import TrainingImages


@dataclass(frozen=True)
class Batch:
    """What is drawn for an iteration, on the training device.

    Attributes:
        index: numbers of the images, (B,).
        corruption: of these images; `None`: the variant needs none.
    """

    index: Tensor
    corruption: Corruption | None

    def tensors(self) -> list[Tensor]:
        of_corruption = vars(self.corruption).values() if self.corruption else ()
        return [self.index, *of_corruption]


def draw_batch(data: TrainingImages, config: FitConfig, iteration: int, *, corrupt: bool) -> Batch:
    """Draw the batch of an iteration; it depends only on seed and iteration.

    Args:
        corrupt: the variant needs corrupted images.
    """
    index = batch_indices(len(data.images), config.batch_size, config.seed, iteration)
    if data.images.is_cuda:  # from pinned memory, the copy does not wait
        index = index.pin_memory().to(data.images.device, non_blocking=True)
    corruption = draw_for_iteration(data, index, config, iteration) if corrupt else None
    return Batch(index, corruption)


def batch_indices(
    count: int, batch_size: int, seed: int, iteration: int, purpose: str = "order"
) -> Tensor:
    """Indices of an iteration's images, (batch_size,): a new random order for each epoch.

    A batch may cross the end of an epoch.
    """
    first = iteration * batch_size
    positions = range(first, first + batch_size)
    orders = {
        epoch: torch.randperm(count, generator=generator(seed, purpose, epoch))
        for epoch in range(positions[0] // count, positions[-1] // count + 1)
    }
    return torch.stack([orders[p // count][p % count] for p in positions])


def draw_for_iteration(
    data: TrainingImages, index: Tensor, config: FitConfig, iteration: int
) -> Corruption:
    """The corruption of an iteration's batch; it depends only on seed and iteration."""
    return draw_corruption(
        None if data.foreground is None else data.foreground[index],
        (data.images.shape[2], data.images.shape[3]),
        len(index),
        len(data.textures),
        generator(config.seed, "synthesis", iteration),
        data.images.device,
    )
