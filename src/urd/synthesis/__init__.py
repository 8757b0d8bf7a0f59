"""Synthetic anomalies: Perlin masks, textures, foreground and their blending into good images."""

from urd.synthesis.corruption import Corruption, corrupt, draw_corruption
from urd.synthesis.foreground import foreground_masks
from urd.synthesis.perlin import draw_perlin, perlin_noise
from urd.synthesis.textures import procedural_textures, split_textures

__all__ = [
    "Corruption",
    "corrupt",
    "draw_corruption",
    "draw_perlin",
    "foreground_masks",
    "perlin_noise",
    "procedural_textures",
    "split_textures",
]
