"""The student: a bottleneck and a decoder that restore the features of a normal image."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from urd.backbones.encoder import Pyramid, Stage
from urd.networks import variants
from urd.networks.bottleneck import Bottleneck
from urd.networks.decoder import Decoder

Size = Literal["full", "slim"]


class Student(nn.Module):
    """Teacher features T_1, T_2, T_3 to restored features S_1, S_2, S_3 of the same shapes.

    Args:
        size: `full` mirrors the encoder, as in the paper. `slim` is for machines without a GPU: it
            has one block per stage, half the inner width, and 1x1 convolutions in the injection.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        injection: variants.Injection,
        size: Size = "full",
    ) -> None:
        super().__init__()
        slim = size == "slim"
        stages = pyramid.stages
        if slim:
            narrow = (Stage(s.channels, 1, (s.width or s.channels) // 2) for s in stages)
            stages = cast(tuple[Stage, Stage, Stage], tuple(narrow))
        pyramid = replace(pyramid, stages=stages)
        self.bottleneck = Bottleneck(stages, depth=1 if slim else None)
        self.decoder = Decoder(pyramid, injection, injection_kernel=1 if slim else 3)

    def forward(self, teacher: list[Tensor]) -> list[Tensor]:
        return self.decoder(self.bottleneck(teacher), teacher)


def initialise(student: Student, generator: torch.Generator) -> None:
    """Draw the weights: Xavier normal for convolutions, PyTorch's default for transposed ones.

    Batch norms start with weight 1 and bias 0.
    """
    for module in student.modules():
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
        elif isinstance(module, nn.Conv2d):
            nn.init.xavier_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
