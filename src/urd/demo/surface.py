"""Surfaces under light: renders height, colour and gloss; draws noise, blobs and curves.

Maps are (H, W) float32, colours (H, W, 3) in [0, 1]; coordinates run from -1 to 1 across the frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[Any]  # OpenCV's annotations have no narrower type
RENDER = 512  # pictures are rendered at twice their size and then averaged


@dataclass(frozen=True)
class Surface:
    """The surface in front of the camera; `height` in half frames, `gloss` in [0, 1]."""

    height: Map
    colour: Map
    gloss: Map


@dataclass(frozen=True)
class Light:
    """A distant lamp: direction in the picture's plane (radians), elevation, and strength."""

    azimuth: float
    elevation: float
    strength: float


def shade(surface: Surface, light: Light) -> Map:
    """Lambert and Blinn-Phong shading of a surface seen from straight above, (H, W, 3)."""
    scale = RENDER / 2
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(surface.height, (0, 0), 0.8) * scale)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    flat = np.cos(light.elevation)
    towards = (
        flat * np.cos(light.azimuth),
        flat * np.sin(light.azimuth),
        np.sin(light.elevation),
    )
    facing = (-slope_x * towards[0] - slope_y * towards[1] + towards[2]) / length
    half = np.array([towards[0], towards[1], towards[2] + 1.0])
    half /= np.linalg.norm(half)
    shine = np.clip((-slope_x * half[0] - slope_y * half[1] + half[2]) / length, 0, 1) ** 24
    diffuse = light.strength * (0.35 + 0.75 * np.clip(facing, 0, None))
    lit = surface.colour * diffuse[..., None] + (0.5 * surface.gloss * shine)[..., None]
    return lit.astype(np.float32)


def grid(
    angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), zoom: float = 1.0
) -> tuple[Map, Map]:
    """Coordinates (x, y) of an object that is rotated, shifted and scaled in the frame."""
    axis = (np.arange(RENDER, dtype=np.float32) + 0.5) / (RENDER / 2) - 1
    x, y = axis[None, :] - shift[0], axis[:, None] - shift[1]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return (cos * x + sin * y) / np.float32(zoom), (cos * y - sin * x) / np.float32(zoom)


def noise(rng: np.random.Generator, cells: int | tuple[int, int]) -> Map:
    """Smooth noise of about unit deviation with about `cells` bumps across the frame."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    coarse = rng.standard_normal((rows + 3, columns + 3)).astype(np.float32)
    return cv2.resize(coarse, (RENDER, RENDER), interpolation=cv2.INTER_CUBIC)


def blob(rng: np.random.Generator, x: float, y: float, radius: float, rough: float = 0.3) -> Map:
    """A soft irregular patch: 1 inside, 0 outside."""
    u, v = grid(rng.uniform(0, np.pi), (x, y))
    distance = np.sqrt(u**2 + (v * rng.uniform(0.8, 1.5)) ** 2) / radius
    return smooth_step(1.15, 0.85, distance + rough * 0.35 * noise(rng, 12))


def curve(
    rng: np.random.Generator, x: float, y: float, length: float, width: float, bend: float
) -> Map:
    """A thin curved line through (x, y): 1 on the line, 0 elsewhere."""
    steps = np.linspace(-0.5, 0.5, 40)
    angle = rng.uniform(0, 2 * np.pi) + bend * np.cumsum(rng.standard_normal(40)) / 6
    path = np.stack([np.cumsum(np.cos(angle)), np.cumsum(np.sin(angle))], 1) * length / len(steps)
    path += np.array([x, y]) - path[len(path) // 2]
    canvas = np.zeros((RENDER, RENDER), np.uint8)
    points = ((path + 1) * RENDER / 2 * 16).round().astype(np.int32)
    thickness = max(1, round(width * RENDER / 2))
    cv2.polylines(canvas, [points], False, 255, thickness, cv2.LINE_AA, shift=4)
    return canvas.astype(np.float32) / 255


def smooth_step(zero: float, one: float, values: Map) -> Map:
    """0 at `zero`, 1 at `one`, smooth between; `zero` may be the larger value."""
    t = np.clip((values - zero) / (one - zero), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def paint(
    surface: Surface, where: Map, colour: tuple[float, float, float], gloss: float
) -> Surface:
    """Cover a part of the surface with another colour and gloss."""
    covered = (
        surface.colour * (1 - where[..., None]) + np.array(colour, np.float32) * where[..., None]
    )
    return replace(
        surface,
        colour=covered.astype(np.float32),
        gloss=surface.gloss * (1 - where) + np.float32(gloss) * where,
    )


def raise_by(surface: Surface, change: Map) -> Surface:
    return replace(surface, height=surface.height + change)
