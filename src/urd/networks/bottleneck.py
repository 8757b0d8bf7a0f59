"""One-class bottleneck embedding (OCBE; Deng and Li, CVPR 2022, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from urd.backbones.encoder import Stage
from urd.networks.blocks import conv_bn_relu, residual_stage


class Bottleneck(nn.Module):
    """Three feature maps to one compact embedding (B, 2 C_3, H/32, W/32).

    Fusion brings levels 1 and 2 to the size of level 3 and concatenates all three (3 C_3 channels
    if channels double from level to level). The embedding is one residual stage like the fourth
    stage of the backbone; it has `depth` blocks, by default as many as that stage.
    """

    def __init__(self, stages: tuple[Stage, Stage, Stage], depth: int | None = None) -> None:
        super().__init__()
        c1, c2, c3 = (stage.channels for stage in stages)
        self.shrink_1 = nn.Sequential(
            conv_bn_relu(c1, 2 * c1, 3, stride=2), conv_bn_relu(2 * c1, 4 * c1, 3, stride=2)
        )
        self.shrink_2 = conv_bn_relu(c2, 2 * c2, 3, stride=2)
        width = stages[2].width
        self.embedding = residual_stage(
            c_in=4 * c1 + 2 * c2 + c3,
            c_out=2 * c3,
            width=None if width is None else 2 * width,
            depth=depth or (2 if width is None else 3),
            resize="down",
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        level_1, level_2, level_3 = features
        fused = torch.cat([self.shrink_1(level_1), self.shrink_2(level_2), level_3], dim=1)
        return self.embedding(fused)
