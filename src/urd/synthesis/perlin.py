"""Batches of rotated Perlin noise (Perlin, SIGGRAPH 1985), as DRAEM uses it for anomaly masks.

The generator that is passed first draws the random numbers of a whole batch on the CPU; then any
device evaluates the noise. The same seed gives the same masks on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_OCTAVE = 5  # axis frequencies 2^0 ... 2^5
_LATTICE = 64  # gradients per axis; the noise repeats after 64 cells, more than an image shows


@dataclass(frozen=True)
class PerlinDraw:
    """The random numbers of B noise images.

    Attributes:
        gradients: angles of the lattice gradients, (B, 64, 64), radians.
        frequency: cells per image along y and x, (B, 2).
        rotation: (B,), radians.
    """

    gradients: Tensor
    frequency: Tensor
    rotation: Tensor

    def to(self, device: torch.device) -> PerlinDraw:
        return PerlinDraw(
            self.gradients.to(device), self.frequency.to(device), self.rotation.to(device)
        )


def draw_perlin(count: int, generator: torch.Generator) -> PerlinDraw:
    """Draw each axis' frequency from 2^0 ... 2^5, and the rotation from ±90 degrees, uniformly."""
    octaves = torch.randint(0, MAX_OCTAVE + 1, (count, 2), generator=generator)
    rotation = (torch.rand(count, generator=generator) - 0.5) * math.pi
    gradients = torch.rand(count, _LATTICE, _LATTICE, generator=generator) * (2 * math.pi)
    return PerlinDraw(gradients, 2.0**octaves, rotation)


def perlin_noise(draw: PerlinDraw, height: int, width: int) -> Tensor:
    """Noise in about [-1, 1], (B, height, width) float32.

    It rotates the sampling grid about the image's centre. Rotating the finished image would leave
    the corners empty.
    """
    y, x = _rotated_grid(draw, height, width)
    y0, x0 = y.floor(), x.floor()
    dy, dx = y - y0, x - x0
    batch = torch.arange(len(y), device=y.device)[:, None, None]
    rows, columns = y0.long() % _LATTICE, x0.long() % _LATTICE

    def ramp(step_y: int, step_x: int) -> Tensor:
        """Dot product of a corner's unit gradient with the offset from that corner."""
        at = (rows + step_y) % _LATTICE, (columns + step_x) % _LATTICE
        angle_cos = draw.gradients.cos()[batch, at[0], at[1]]
        angle_sin = draw.gradients.sin()[batch, at[0], at[1]]
        return angle_cos * (dx - step_x) + angle_sin * (dy - step_y)

    fade_y, fade_x = _fade(dy), _fade(dx)
    top = torch.lerp(ramp(0, 0), ramp(0, 1), fade_x)
    bottom = torch.lerp(ramp(1, 0), ramp(1, 1), fade_x)
    return math.sqrt(2) * torch.lerp(top, bottom, fade_y)


def _rotated_grid(draw: PerlinDraw, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Lattice coordinates of the pixel centres, two (B, height, width) tensors."""
    device = draw.rotation.device
    y = (torch.arange(height, device=device) + 0.5 - height / 2)[None, :, None]
    x = (torch.arange(width, device=device) + 0.5 - width / 2)[None, None, :]
    cos, sin = draw.rotation.cos()[:, None, None], draw.rotation.sin()[:, None, None]
    rotated_y = (cos * y - sin * x) / height + 0.5
    rotated_x = (sin * y + cos * x) / width + 0.5
    frequency = draw.frequency[:, :, None, None]
    return rotated_y * frequency[:, 0], rotated_x * frequency[:, 1]


def _fade(t: Tensor) -> Tensor:
    """Perlin's quintic: first and second derivatives are 0 at 0 and 1, so cells join smoothly."""
    return t**3 * (t * (t * 6 - 15) + 10)
