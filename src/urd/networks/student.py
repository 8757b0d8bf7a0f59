"""The student: bottleneck and decoder, which restore the teacher's features as if normal."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from urd.networks import variants
from urd.networks.bottleneck import Bottleneck
from urd.networks.decoder import Decoder
from urd.networks.encoder import Stage


class Student(nn.Module):
    """Teacher features T_1, T_2, T_3 to restored features S_1, S_2, S_3 of the same shapes."""

    def __init__(self, stages: tuple[Stage, Stage, Stage], injection: variants.Injection) -> None:
        super().__init__()
        self.bottleneck = Bottleneck(stages)
        self.decoder = Decoder(stages, injection)

    def forward(self, teacher: list[Tensor]) -> list[Tensor]:
        return self.decoder(self.bottleneck(teacher), teacher)


def initialise(student: Student, generator: torch.Generator) -> None:
    """Xavier normal; the framework's default for transposed convolutions; batch norm 1 / 0."""
    for module in student.modules():
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
        elif isinstance(module, nn.Conv2d):
            nn.init.xavier_normal_(module.weight, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
