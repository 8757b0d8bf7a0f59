"""Give batch norms the statistics of good images, without changing what they compute.

The norms of the built-in backbone hold the statistics of rendered images. In training, a teacher
normalises by its batches of good images instead. Without this change its features would jump away
from the expert's at the first step, and training would be spent on the way back. Backbones of
timm stay as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NORMS = "norms of the good images"  # tells results with such teachers from older ones


@torch.no_grad()
def restate_norms(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give each norm the mean m and variance v of its input over the batches (B, 3, H, W).

    From the old m', v' and weights g', b' follow g = g' sqrt((v + eps) / (v' + eps)) and
    b = b' + g' (m - m') / sqrt(v' + eps). In evaluation mode the network's output is unchanged.

    Raises:
        ValueError: there are no batches.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    found = [_Moments() for _ in norms]
    mode = network.training
    network.eval()
    with ExitStack() as hooks:
        for norm, moments in zip(norms, found, strict=True):
            hooks.callback(norm.register_forward_pre_hook(moments.of_input()).remove)
        for images in batches:
            network(images)
    network.train(mode)
    if not all(moments.images for moments in found):
        raise ValueError("restating norms needs at least one batch of images")
    for norm, moments in zip(norms, found, strict=True):
        _restate(norm, moments.mean, moments.variance)


@dataclass
class _Moments:
    """Moments of each channel over all places of all images, in float64."""

    images: int = 0
    sum: Tensor | float = 0.0
    square: Tensor | float = 0.0

    def of_input(self) -> Callable[[nn.Module, Any], None]:
        def add(norm: nn.Module, inputs: tuple[Tensor]) -> None:
            (x,) = inputs
            spread, middle = torch.var_mean(x, (0, 2, 3), correction=0)
            spread, middle = spread.cpu().double(), middle.cpu().double()
            self.images += len(x)
            self.sum = self.sum + len(x) * middle
            self.square = self.square + len(x) * (spread + middle.square())

        return add

    @property
    def mean(self) -> Tensor:
        return torch.as_tensor(self.sum) / self.images

    @property
    def variance(self) -> Tensor:
        return (torch.as_tensor(self.square) / self.images - self.mean.square()).clamp(min=0)


def _restate(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    old_mean, old_variance, weight, bias = (
        t.detach().cpu().double()
        for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    # The norm is slope * (x - old_mean) + bias; write the same line with the new statistics.
    slope = weight / (old_variance + norm.eps).sqrt()
    norm.weight.copy_(slope * (variance + norm.eps).sqrt())
    norm.bias.copy_(bias + slope * (mean - old_mean))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
