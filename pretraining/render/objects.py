"""Silhouettes and bodies: what stands on a background, with its height above it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pretraining.render.fields import Field, Random, coordinates, smooth, step, turned

Shape = Callable[[Random, Field, Field], Field]


def body(rng: Random, side: int, radius: float) -> tuple[Field, Field]:
    """A part of about `radius` pixels in the middle of the frame, at any angle.

    Returns:
        Its stencil in [0, 1] and its height in pixels, 0 outside.
    """
    x, y = coordinates(side)
    u, v = turned(x / np.float32(radius), y / np.float32(radius), rng.uniform(0, 2 * np.pi))
    shape = SHAPES[rng.integers(len(SHAPES))]
    inside = shape(rng, u, v)  # signed, in units of the radius: positive inside
    stencil = step(-0.8 / radius, 0.8 / radius, inside)
    depth = np.clip(inside, 0, None)
    bevel = rng.uniform(0.02, 0.5)
    kind = rng.integers(3)
    if kind == 0:  # flat with a chamfer
        profile = np.minimum(depth, bevel)
    elif kind == 1:  # rounded off
        profile = bevel * np.sqrt(np.clip(1 - (1 - np.minimum(depth / bevel, 1)) ** 2, 0, 1))
    else:  # stepped
        profile = 0.5 * np.minimum(depth, bevel) + 0.4 * bevel * step(bevel, 1.3 * bevel, depth)
    if rng.random() < 0.25:
        profile = profile + 0.15 * np.clip(inside, 0, None) * smooth(rng, side, radius)
    return stencil, (profile * radius * stencil).astype(np.float32)


def _ring(rng: Random, u: Field, v: Field) -> Field:
    radius = np.hypot(u, v)
    hole = rng.choice([0.0, rng.uniform(0.15, 0.7)])
    return np.minimum(1 - radius, radius - hole) if hole else 1 - radius


def _polygon(rng: Random, u: Field, v: Field) -> Field:
    sides = int(rng.integers(3, 9))
    angle = np.arctan2(v, u)
    sector = 2 * np.pi / sides
    edge = np.hypot(u, v) * np.cos((angle % sector) - sector / 2)
    inside = np.cos(sector / 2) - edge
    hole = rng.choice([0.0, rng.uniform(0.15, 0.5)])
    return np.minimum(inside, np.hypot(u, v) - hole) if hole else inside


def _gear(rng: Random, u: Field, v: Field) -> Field:
    teeth, depth = int(rng.integers(6, 30)), rng.uniform(0.05, 0.25)
    wave = np.clip(rng.uniform(1, 4) * np.sin(teeth * np.arctan2(v, u)), -1, 1)
    radius = np.hypot(u, v)
    return np.minimum(1 - depth + depth * wave / 2 - radius, radius - rng.uniform(0.05, 0.5))


def _bar(rng: Random, u: Field, v: Field) -> Field:
    wide, corner = rng.uniform(0.12, 0.7), rng.uniform(0, 0.1)
    dx, dy = np.abs(u) - 1 + corner, np.abs(v) - wide + corner
    outside = np.hypot(np.clip(dx, 0, None), np.clip(dy, 0, None))
    return corner - outside - np.minimum(np.maximum(dx, dy), 0)


def _turned_part(rng: Random, u: Field, v: Field) -> Field:
    """A solid of revolution from the side: a bottle, a pin, a shaft with collars, a thread."""
    knots = rng.uniform(0.12, 0.6, int(rng.integers(3, 8)))
    if rng.random() < 0.5:
        knots = np.repeat(knots, 12)
    radius = np.interp(u, np.linspace(-1, 1, len(knots)), knots)
    if rng.random() < 0.5:
        turns = rng.uniform(8, 30)
        slant = np.abs((u * turns + 0.5 * v / radius) % 1 - 0.5) * 2
        start, end = np.sort(rng.uniform(-1, 1, 2))
        radius = radius - 0.12 * radius * slant * ((u > start) & (u < end))
    return np.minimum(radius - np.abs(v), 1 - np.abs(u))


def _blob(rng: Random, u: Field, v: Field) -> Field:
    angle = np.arctan2(v, u)
    waves = sum(rng.normal(0, 0.12) * np.cos(k * angle + rng.uniform(0, 6)) for k in range(2, 7))
    return 0.8 + waves - np.hypot(u, v)


def _letter(rng: Random, u: Field, v: Field) -> Field:
    canvas = np.zeros((96, 96), np.uint8)
    sign = chr(int(rng.choice([*range(48, 58), *range(65, 91)])))
    font, thick = int(rng.choice([0, 2, 3, 4])), int(rng.integers(6, 16))
    cv2.putText(canvas, sign, (18, 78), font, 3, 255, thick, cv2.LINE_AA)
    inside, outside = (
        cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 3)
        for part in (canvas > 127, canvas <= 127)
    )
    return cv2.remap(
        (inside - outside) / 48,
        (u * 48 + 48).astype(np.float32),
        (v * 48 + 48).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


SHAPES: tuple[Shape, ...] = (
    _ring,
    _polygon,
    _gear,
    _bar,
    _turned_part,
    _turned_part,
    _blob,
    _letter,
)
