"""The training objectives of the encoder.

Each objective is a module with its own heads, which are discarded after training; `forward` gives
the loss of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pretraining.render import PARAMETERS


@dataclass(frozen=True)
class Batch:
    """The labels of a batch of B images.

    Attributes:
        index: the numbers of the images, (B,).
        parameters: the parameters with which they were rendered, (B, P).
        places, damage: as in `Views`, view by view: (views * B, 2, 3), (views * B, 1, H, W).
    """

    index: Tensor
    parameters: Tensor
    places: Tensor
    damage: Tensor


class Objective(nn.Module):
    """The base of objectives: heads on levels with `channels`, for a set of `images` images.

    It needs `views` views of each image; some are damaged if `damaged`.
    """

    views = 1
    damaged = False

    def __init__(self, channels: tuple[int, ...], images: int) -> None:
        super().__init__()


class Instances(Objective):
    """Which image does this view show? Each image is a class (Nakamura et al., 2023)."""

    weights = (0.25, 0.5, 1.0)  # of the levels

    def __init__(self, channels: tuple[int, ...], images: int) -> None:
        super().__init__(channels, images)
        self.heads = nn.ModuleList(nn.Linear(c, images) for c in channels)

    def forward(self, levels: list[Tensor], batch: Batch) -> Tensor:
        truth = batch.index.repeat(len(levels[0]) // len(batch.index))
        losses = [
            functional.cross_entropy(head(_pooled(level)), truth, label_smoothing=0.1)
            for head, level in zip(self.heads, levels, strict=True)
        ]
        return _weighted(losses, self.weights)


class Parameters(Objective):
    """Which parameters was the image rendered with? Each level predicts all of them."""

    def __init__(self, channels: tuple[int, ...], images: int) -> None:
        super().__init__(channels, images)
        self.heads = nn.ModuleList(nn.Linear(c, sum(PARAMETERS.values())) for c in channels)

    def forward(self, levels: list[Tensor], batch: Batch) -> Tensor:
        loss = levels[0].new_zeros(())
        for head, level in zip(self.heads, levels, strict=True):
            answers = head(_pooled(level)).split(list(PARAMETERS.values()), dim=1)
            for answer, truth in zip(answers, batch.parameters.T, strict=True):
                loss = loss + functional.cross_entropy(answer, truth) / len(PARAMETERS)
        return loss / len(levels)


class Places(Objective):
    """Which place in the other views is the same as this one? A dense InfoNCE over all images.

    It uses the features directly, without a head, because a detector compares their cosines.
    """

    views = 2
    side = 6  # of the grid of places
    temperature = 0.1
    weights = (0.5, 1.0, 1.0)

    def forward(self, levels: list[Tensor], batch: Batch) -> Tensor:
        here, there, seen = _same_places(batch.places, self.side)
        losses = []
        for level in levels:
            first, second = level.float().chunk(2)
            alike = _at(first, here)[seen] @ _at(second, there)[seen].T / self.temperature
            truth = torch.arange(len(alike), device=alike.device)
            there_from_here = functional.cross_entropy(alike, truth)
            here_from_there = functional.cross_entropy(alike.T, truth)
            losses.append(there_from_here / 2 + here_from_there / 2)
        return _weighted(losses, self.weights)


class Damage(Objective):
    """Where is the view damaged? A linear head on each level predicts it."""

    damaged = True
    odds = 8.0  # weight of a damaged place, since damaged places are rare

    def __init__(self, channels: tuple[int, ...], images: int) -> None:
        super().__init__(channels, images)
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels)

    def forward(self, levels: list[Tensor], batch: Batch) -> Tensor:
        loss = levels[0].new_zeros((), dtype=torch.float32)
        for head, level in zip(self.heads, levels, strict=True):
            share = functional.adaptive_avg_pool2d(batch.damage, (level.shape[2], level.shape[3]))
            odds = torch.tensor(self.odds, device=level.device)
            loss = loss + functional.binary_cross_entropy_with_logits(
                head(level).float(), share, pos_weight=odds
            )
        return loss


class Together(Objective):
    """The weighted sum of several objectives."""

    parts: tuple[tuple[type[Objective], float], ...] = ()

    def __init__(self, channels: tuple[int, ...], images: int) -> None:
        super().__init__(channels, images)
        self.objectives = nn.ModuleList(kind(channels, images) for kind, _ in self.parts)

    def forward(self, levels: list[Tensor], batch: Batch) -> Tensor:
        losses = [objective(levels, batch) for objective in self.objectives]
        return _weighted(losses, [weight for _, weight in self.parts])


class InstancesDamage(Together):
    damaged = True
    parts = ((Instances, 1.0), (Damage, 2.0))


class InstancesPlaces(Together):
    views = Places.views
    parts = ((Instances, 1.0), (Places, 0.5))


class InstancesPlacesDamage(Together):
    views = Places.views
    damaged = True
    parts = ((Instances, 1.0), (Places, 0.5), (Damage, 2.0))


OBJECTIVES: dict[str, type[Objective]] = {
    "parameters": Parameters,
    "instances": Instances,
    "instances-places": InstancesPlaces,
    "instances-damage": InstancesDamage,
    "instances-places-damage": InstancesPlacesDamage,
}


def _weighted(losses: list[Tensor], weights: Sequence[float]) -> Tensor:
    products = [weight * loss for weight, loss in zip(weights, losses, strict=True)]
    return torch.stack(products).sum()


def _pooled(level: Tensor) -> Tensor:
    return level.float().mean(dim=(2, 3))


def _same_places(places: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """A grid of the first view, the same places in the second, and which are inside the second.

    Returns:
        Grid and places, (B, side, side, 2) in coordinates of their view; inside: (B * side * side,)
        bool.
    """
    first, second = places.chunk(2)
    grid = functional.affine_grid(
        torch.eye(2, 3, device=places.device).expand(len(first), 2, 3),
        [len(first), 1, side, side],
        align_corners=False,
    )
    # From the first view to the image by its affine map, then by the inverse map to the second.
    in_image = grid.flatten(1, 2) @ first[:, :, :2].transpose(1, 2) + first[:, None, :, 2]
    inverse = torch.linalg.inv(second[:, :, :2])
    there = (in_image - second[:, None, :, 2]) @ inverse.transpose(1, 2)
    inside = (in_image.abs().amax(dim=-1) < 1) & (there.abs().amax(dim=-1) < 1)
    return grid, there.view_as(grid), inside.flatten()


def _at(features: Tensor, where: Tensor) -> Tensor:
    """Unit vectors (B * places, C) at the given coordinates."""
    sampled = functional.grid_sample(features, where, padding_mode="border", align_corners=False)
    return functional.normalize(sampled.flatten(2).transpose(1, 2).flatten(0, 1), dim=1)
