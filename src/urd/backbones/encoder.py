"""The encoder: stem and first three stages of a pretrained backbone.

The expert and the teacher are both encoders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from urd.errors import UsageError

Colour = tuple[float, float, float]
_PROBE = 64
STRIDES = (4, 8, 16)  # of the levels


@dataclass(frozen=True)
class Stage:
    """What the decoder needs to know of an encoder stage in order to mirror it.

    `width` is the inner width of bottleneck blocks; `None` for basic blocks.
    """

    channels: int
    depth: int
    width: int | None


@dataclass(frozen=True)
class Pyramid:
    """The three levels of an encoder, at strides 4, 8 and 16.

    Attributes:
        stages: of levels 1, 2 and 3.
        signed: the levels hold negative values, so they do not come from a ReLU. A student needs
            linear heads to restore them.
    """

    stages: tuple[Stage, Stage, Stage]
    signed: bool = False


class Normalisation(nn.Module):
    """(image - mean) / std per channel, always in float32.

    Mean and std are buffers that are not saved with the weights: they belong to the backbone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Colour, std: Colour) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Normalisation:
        # Follow the network to another device, but stay in float32: bfloat16 has only 8 bits.
        self.mean, self.std = (buffer.to(fn(buffer).device) for buffer in (self.mean, self.std))
        return self


class Encoder(nn.Module):
    """Image (B, 3, H, W) in [0, 1] to three feature maps at strides 4, 8 and 16.

    H and W are multiples of 32. Levels are numbered k = 1, 2, 3 in the paper and 0, 1, 2 here.

    Args:
        body: the network that computes the levels of a normalised image.
        mean, std: of each RGB channel in [0, 1], as in the backbone's training.
    """

    def __init__(
        self, tag: str, body: nn.Module, pyramid: Pyramid, mean: Colour, std: Colour
    ) -> None:
        super().__init__()
        self.tag = tag
        self.normalisation = Normalisation(mean, std)
        self.body = body
        self.pyramid = pyramid

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.levels(self.network_input(images))

    def levels(self, normalised: Tensor) -> list[Tensor]:
        """The three levels of a normalised image."""
        return cast(list[Tensor], self.body(normalised))

    def network_input(self, images: Tensor) -> Tensor:
        """The image normalised, in the weights' precision and memory format."""
        normalised = self.normalisation(images).to(next(self.parameters()).dtype)
        if torch.compiler.is_exporting():  # a file for other programs has no memory format
            return cast(Tensor, normalised)
        return cast(Tensor, normalised.contiguous(memory_format=torch.channels_last))

    def weights(self) -> dict[str, Tensor]:
        """The tensors that a weight file holds, by their names there."""
        return self.body.state_dict()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        self.body.load_state_dict(weights)


def has_signed_levels(encoder: Encoder) -> bool:
    """Whether a level of a random image holds negative values; after a ReLU there are none."""
    return any(bool((level < 0).any()) for level in _levels_of_noise(encoder))


def refuse_other_levels(encoder: Encoder) -> None:
    """Raise `UsageError` if a level has another size than its stage and its stride say."""
    found = [tuple(level.shape[1:]) for level in _levels_of_noise(encoder)]
    wanted = [
        (stage.channels, _PROBE // stride, _PROBE // stride)
        for stage, stride in zip(encoder.pyramid.stages, STRIDES, strict=True)
    ]
    if found != wanted:
        raise UsageError(
            f"backbone {encoder.tag} gives levels of {found} for an image of {_PROBE}x{_PROBE}; "
            f"its stages at the strides {', '.join(map(str, STRIDES))} need {wanted}"
        )


@torch.no_grad()
def _levels_of_noise(encoder: Encoder) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    image: Any = torch.rand(1, 3, _PROBE, _PROBE, generator=random)
    mode = encoder.training
    found: list[Tensor] = encoder.eval()(image.to(next(encoder.parameters()).device))
    encoder.train(mode)
    return found
