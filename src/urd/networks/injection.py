"""Guided Information Injection (GII): the teacher's detail, where the teacher looks normal."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from urd.networks.blocks import conv_bn_relu


def guide(student: Tensor, teacher: Tensor) -> Tensor:
    """g_k = cos(S_k, T_k) per location, (B, 1, H, W) in float32, without gradient.

    Near 1, the student restores the teacher's feature, so the place looks normal.
    """
    with torch.no_grad():
        return functional.cosine_similarity(student.float(), teacher.float(), dim=1).unsqueeze(1)


class Injection(nn.Module):
    """Compute the input of the next decoder stage from S_k, T_k and the finer T_{k-1}.

        F_k = CBR3x3(T_k + CBR1x1(half-size T_{k-1}))
        I_k = CBR3x3(g_k F_k + (1 - g_k) S_k)              guided; plain injection has I_k = F_k
        out = CBR3x3(concat(S_k, I_k))

    CBR is convolution, batch norm, ReLU; 3x3 stands for `kernel`. All maps are (B, C_k, H_k, W_k),
    T_{k-1} is (B, C_{k-1}, 2 H_k, 2 W_k).
    """

    def __init__(self, channels: int, finer_channels: int, guided: bool, kernel: int = 3) -> None:
        super().__init__()
        self.align = conv_bn_relu(finer_channels, channels, 1)
        self.fuse = conv_bn_relu(channels, channels, kernel)
        self.inject = conv_bn_relu(channels, channels, kernel) if guided else None
        self.merge = conv_bn_relu(2 * channels, channels, kernel)

    def forward(self, student: Tensor, teacher: Tensor, finer_teacher: Tensor) -> Tensor:
        # Bilinear resizing to exactly half the size is the mean of each 2x2 square.
        finer = functional.avg_pool2d(finer_teacher, 2)
        injected = self.fuse(teacher + self.align(finer))
        if self.inject is not None:
            g = guide(student, teacher).to(student.dtype)
            injected = self.inject(g * injected + (1 - g) * student)
        return self.merge(torch.cat([student, injected], dim=1))
