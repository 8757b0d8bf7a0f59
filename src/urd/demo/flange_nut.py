"""A zinc-plated flange nut on a rubber mat. Its place, its rotation and the lamp vary a little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from urd.demo.surface import (
    RENDER,
    Light,
    Map,
    Surface,
    blob,
    curve,
    grid,
    noise,
    paint,
    raise_by,
    shade,
    smooth_step,
)

FLANGE, HEXAGON, HOLE = 0.62, 0.40, 0.2
ZINC = np.array((0.62, 0.64, 0.66), np.float32)
MAT = np.array((0.13, 0.17, 0.2), np.float32)


@dataclass(frozen=True)
class Pose:
    """Position, rotation and scale of the nut, and the light."""

    angle: float
    shift: tuple[float, float]
    zoom: float
    light: Light


def draw_pose(rng: np.random.Generator) -> Pose:
    return Pose(
        0.3 + rng.uniform(-0.15, 0.15),
        (rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)),
        rng.uniform(1.2, 1.32),
        Light(-2.2 + rng.uniform(-0.25, 0.25), rng.uniform(0.85, 1.0), rng.uniform(0.92, 1.08)),
    )


def render(rng: np.random.Generator, defect: str | None) -> tuple[Map, Map]:
    """A picture (H, W, 3) and the place of its defect (H, W), both at render size."""
    pose = draw_pose(rng)
    base = int(rng.integers(2**62))
    stencil = np.zeros((RENDER, RENDER), np.float32)
    nut = _nut(np.random.default_rng(base), pose)
    body = _body(pose)
    if defect == "missing_part":
        body, stencil = _break_edge(rng, pose, body)
    elif defect is not None:
        nut, stencil = DEFECTS[defect](rng, pose, nut)
    return _compose(np.random.default_rng(base + 1), pose, nut, body), stencil


def _radius(pose: Pose) -> tuple[Map, Map, Map]:
    """Distance from the axis, distance from the hexagon's sides, and the angle about the axis."""
    x, y = grid(pose.angle, pose.shift, pose.zoom)
    angle = np.arctan2(y, x)
    sector = np.mod(angle, np.pi / 3) - np.pi / 6
    radius = np.sqrt(x**2 + y**2)
    return radius, radius * np.cos(sector), angle


def _body(pose: Pose) -> Map:
    """1 on the nut, 0 on the mat and in the hole."""
    radius, _, _ = _radius(pose)
    edge = 2 / RENDER
    outside = smooth_step(FLANGE + edge, FLANGE - edge, radius)
    return outside * smooth_step(HOLE - edge, HOLE + edge, radius)


def _nut(rng: np.random.Generator, pose: Pose) -> Surface:
    radius, side, angle = _radius(pose)
    flange = 0.10 * smooth_step(FLANGE, FLANGE - 0.06, radius) - 0.05 * (radius - HEXAGON)
    prism = 0.22 * smooth_step(HEXAGON + 0.025, HEXAGON - 0.01, side)
    chamfer = np.clip((radius - HEXAGON) * 0.6, 0, None) * (prism > 0.11)
    bore = -0.3 * smooth_step(HOLE + 0.07, HOLE, radius)
    thread = 0.008 * np.sin((radius * 160) + angle) * (radius < HOLE + 0.06)
    turned = 0.0008 * np.sin(radius * 420 + 2 * noise(rng, 6)) * (side < HEXAGON)
    cast = 0.0012 * noise(rng, 90) * (side >= HEXAGON)
    height = (flange + prism - chamfer + bore + thread + turned + cast).astype(np.float32)
    tint = 1 + 0.03 * noise(rng, 5) + 0.02 * noise(rng, 120)
    colour = (ZINC * tint[..., None]).astype(np.float32)
    return Surface(height, colour, np.full((RENDER, RENDER), 0.55, np.float32))


def _compose(rng: np.random.Generator, pose: Pose, nut: Surface, body: Map) -> Map:
    """The nut on its mat, with the shadow it casts."""
    grain = 0.004 * noise(rng, 200) + 0.003 * noise(rng, 60)
    tint = MAT * (1 + 0.05 * noise(rng, 4)[..., None])
    mat = Surface(grain.astype(np.float32), tint.astype(np.float32), np.full_like(grain, 0.08))
    away = -0.07 * RENDER / 2 * np.array([np.cos(pose.light.azimuth), np.sin(pose.light.azimuth)])
    move = np.array([[1, 0, away[0]], [0, 1, away[1]]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(body, move, (RENDER, RENDER)), (0, 0), 7)
    ground = shade(mat, pose.light) * (1 - 0.6 * np.maximum(shadow, 0))[..., None]
    return ground * (1 - body[..., None]) + shade(nut, pose.light) * body[..., None]


def _spot(rng: np.random.Generator, pose: Pose, low: float, high: float) -> tuple[float, float]:
    """A random point on the nut between two radii, in coordinates of the frame."""
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(low, high) * pose.zoom
    return pose.shift[0] + radius * np.cos(angle), pose.shift[1] + radius * np.sin(angle)


def _scratch(rng: np.random.Generator, pose: Pose, nut: Surface) -> tuple[Surface, Map]:
    line = curve(rng, *_spot(rng, pose, 0.28, 0.5), rng.uniform(0.4, 0.6), 0.032, 0.25)
    return paint(raise_by(nut, -0.02 * line), 0.9 * line, (0.16, 0.15, 0.15), 0.3), line


def _dent(rng: np.random.Generator, pose: Pose, nut: Surface) -> tuple[Surface, Map]:
    x, y = _spot(rng, pose, 0.27, 0.56)
    u, v = grid(rng.uniform(0, np.pi), (x, y))
    radius = rng.uniform(0.07, 0.1)
    bowl = np.exp(-((u / radius) ** 2 + (v / (0.7 * radius)) ** 2)).astype(np.float32)
    return raise_by(nut, -0.09 * bowl), smooth_step(0.05, 0.2, bowl)


def _stain(rng: np.random.Generator, pose: Pose, nut: Surface) -> tuple[Surface, Map]:
    patch = blob(rng, *_spot(rng, pose, 0.28, 0.55), rng.uniform(0.07, 0.13), rough=0.8)
    rust = (0.38 + rng.uniform(-0.05, 0.05), 0.21, 0.1)
    return paint(nut, 0.8 * patch, rust, 0.05), patch


def _break_edge(rng: np.random.Generator, pose: Pose, body: Map) -> tuple[Map, Map]:
    """A piece of the flange is broken off, so the mat is visible there."""
    x, y = _spot(rng, pose, FLANGE - 0.01, FLANGE)
    piece = blob(rng, x, y, rng.uniform(0.14, 0.2), rough=0.7) * body
    return body - piece, piece


def _contamination(rng: np.random.Generator, pose: Pose, nut: Surface) -> tuple[Surface, Map]:
    """A curled metal chip or a coloured fibre on the part."""
    x, y = _spot(rng, pose, 0.28, 0.52)
    line = curve(rng, x, y, rng.uniform(0.3, 0.5), rng.uniform(0.024, 0.034), 1.1)
    choices = ((0.75, 0.12, 0.1), (0.1, 0.25, 0.6), (0.85, 0.7, 0.25))
    colour = choices[int(rng.integers(len(choices)))]
    return paint(raise_by(nut, 0.03 * line), line, colour, 0.4), line


DEFECTS: dict[str, Callable[[np.random.Generator, Pose, Surface], tuple[Surface, Map]]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "contamination": _contamination,
}
KINDS = (*DEFECTS, "missing_part")
