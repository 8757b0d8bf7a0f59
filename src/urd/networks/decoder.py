"""The decoder: it mirrors the encoder's three stages, with injection between them."""

from __future__ import annotations

from torch import Tensor, nn

from urd.backbones.encoder import Pyramid
from urd.networks import variants
from urd.networks.blocks import residual_stage
from urd.networks.injection import Injection


class Decoder(nn.Module):
    """Embedding (B, 2 C_3, H/32, W/32) to S_1, S_2, S_3; S_k has the size of the teacher's T_k.

    Each stage ends in a ReLU, as in residual networks. If the teacher's levels are signed, a linear
    1x1 convolution follows each stage, so that S_k can be negative, too.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        injection: variants.Injection,
        injection_kernel: int = 3,
    ) -> None:
        super().__init__()
        stages = pyramid.stages
        c1, c2, c3 = (stage.channels for stage in stages)
        # Mirrored depths: the decoder's first stage, stage_3, is as deep as the encoder's first.
        depth_3, depth_2, depth_1 = (stage.depth for stage in stages)
        width_1, width_2, width_3 = (stage.width for stage in stages)
        self.stage_3 = residual_stage(2 * c3, c3, width_3, depth_3, "up")
        self.stage_2 = residual_stage(c3, c2, width_2, depth_2, "up")
        self.stage_1 = residual_stage(c2, c1, width_1, depth_1, "up")
        heads = [nn.Conv2d(c, c, 1) if pyramid.signed else nn.Identity() for c in (c1, c2, c3)]
        self.head_1, self.head_2, self.head_3 = heads
        self.injection_3: Injection | None = None
        self.injection_2: Injection | None = None
        if injection != "none":
            guided = injection == "guided"
            self.injection_3 = Injection(c3, c2, guided, injection_kernel)
            self.injection_2 = Injection(c2, c1, guided, injection_kernel)

    def forward(self, embedding: Tensor, teacher: list[Tensor]) -> list[Tensor]:
        t1, t2, t3 = teacher
        s3 = self.head_3(self.stage_3(embedding))
        given_2 = s3 if self.injection_3 is None else self.injection_3(s3, t3, t2)
        s2 = self.head_2(self.stage_2(given_2))
        given_1 = s2 if self.injection_2 is None else self.injection_2(s2, t2, t1)
        s1 = self.head_1(self.stage_1(given_1))
        return [s1, s2, s3]
