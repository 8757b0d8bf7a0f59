"""What the encoder is asked while it is trained.

Each objective is a module with heads of its own that are thrown away afterwards. `views` says how
many views of an image it wants; `forward` gives the loss of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from pretraining.render import PARAMETERS


@dataclass(frozen=True)
class Batch:
    """`index` (B,): which images; `parameters` (B, P); `places` (views * B, 2, 3), view by view."""

    index: Tensor
    parameters: Tensor
    places: Tensor


class Objective(nn.Module):
    """Heads on the levels of `channels`; `images`: how many there are to learn from."""

    views = 1

    def __init__(self, channels: tuple[int, ...], images: int) -> None:
        super().__init__()


class Instances(Objective):
    """Which of all the images is this a view of? (One image per class: Nakamura et al., 2023.)"""

    def __init__(self, channels: tuple[int, ...], images: int) -> None:
        super().__init__(channels, images)
        self.heads = nn.ModuleList(nn.Linear(c, images) for c in channels[1:])

    def forward(self, levels: list[Tensor], batch: Batch) -> Tensor:
        losses = [
            functional.cross_entropy(head(_pooled(level)), batch.index, label_smoothing=0.1)
            for head, level in zip(self.heads, levels[1:], strict=True)
        ]
        return 0.5 * losses[0] + losses[1]


class Parameters(Objective):
    """What was the image rendered from? Each level names the renderer's parameters."""

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


class Contrast(Objective):
    """Where in the other view is this place, among the places of all images? (InfoNCE, dense.)"""

    views = 2
    places = 8
    temperature = 0.15

    def __init__(self, channels: tuple[int, ...], images: int) -> None:
        super().__init__(channels, images)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 256, 1), nn.ReLU(), nn.Conv2d(256, 128, 1))
            for c in channels[1:]
        )

    def forward(self, levels: list[Tensor], batch: Batch) -> Tensor:
        here, there, seen = _same_places(batch.places, self.places)
        loss = levels[0].new_zeros(())
        for head, level in zip(self.heads, levels[1:], strict=True):
            first, second = head(level).float().chunk(2)
            a = _at(first, here)[seen]
            b = _at(second, there)[seen]
            alike = a @ b.T / self.temperature
            truth = torch.arange(len(a), device=a.device)
            loss = loss + functional.cross_entropy(alike, truth)
            loss = loss + functional.cross_entropy(alike.T, truth)
        return loss / (2 * len(self.heads))


class Both(Objective):
    """Where is this place in the other view, and what was either rendered from?"""

    views = 2

    def __init__(self, channels: tuple[int, ...], images: int) -> None:
        super().__init__(channels, images)
        self.contrast = Contrast(channels, images)
        self.parameters_of = Parameters(channels, images)

    def forward(self, levels: list[Tensor], batch: Batch) -> Tensor:
        of_both = replace(batch, parameters=batch.parameters.repeat(self.views, 1))
        loss: Tensor = self.contrast(levels, batch) + self.parameters_of(levels, of_both)
        return loss


OBJECTIVES: dict[str, type[Objective]] = {
    "instances": Instances,
    "parameters": Parameters,
    "contrast": Contrast,
    "both": Both,
}


def _pooled(level: Tensor) -> Tensor:
    return level.float().mean(dim=(2, 3))


def _same_places(places: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """A grid of the first view, the same places in the second, and which of them lie in it.

    Returns:
        Two of (B, side, side, 2) in the views' coordinates, and (B * side * side,) bool.
    """
    first, second = places.chunk(2)
    grid = functional.affine_grid(
        torch.eye(2, 3, device=places.device).expand(len(first), 2, 3),
        [len(first), 1, side, side],
        align_corners=False,
    )
    in_image = grid.flatten(1, 2) @ first[:, :, :2].transpose(1, 2) + first[:, None, :, 2]
    inverse = torch.linalg.inv(second[:, :, :2])
    there = (in_image - second[:, None, :, 2]) @ inverse.transpose(1, 2)
    inside = (in_image.abs().amax(dim=-1) < 1) & (there.abs().amax(dim=-1) < 1)
    return grid, there.view_as(grid), inside.flatten()


def _at(features: Tensor, where: Tensor) -> Tensor:
    """Unit vectors (B * places, C) at the given coordinates."""
    sampled = functional.grid_sample(features, where, padding_mode="border", align_corners=False)
    return functional.normalize(sampled.flatten(2).transpose(1, 2).flatten(0, 1), dim=1)
