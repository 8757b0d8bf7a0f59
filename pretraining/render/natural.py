"""Families of surfaces that grow: noise, stone, wood, leaves, fractals."""

from __future__ import annotations

import cv2
import numpy as np

from pretraining.render.fields import (
    Field,
    Random,
    cells,
    coordinates,
    escape_time,
    gabor,
    grown,
    iterated_functions,
    perlin,
    power_law,
    step,
    turned,
    unit,
    warped,
    white,
)
from pretraining.render.surfaces import Surface, surface_of


def _leaf(rng: Random, size: float, kind: int) -> Field:
    """Outline (N, 2) about the origin: ellipse, polygon, rectangle, or star of waves."""
    if kind == 2:
        outline = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (1, rng.uniform(0.2, 1))
    else:
        angle = np.linspace(
            0, 2 * np.pi, int(rng.integers(3, 8)) if kind == 1 else 24, endpoint=False
        )
        radius = 1 + (rng.uniform(0, 0.5) * np.cos(rng.integers(2, 7) * angle) if kind == 3 else 0)
        outline = np.stack(
            [radius * np.cos(angle), rng.uniform(0.3, 1) * radius * np.sin(angle)], 1
        )
    x, y = turned(outline[:, 0], outline[:, 1], rng.uniform(0, np.pi))
    return np.stack([x, y], 1) * size / 2


def spectral(rng: Random, side: int, scale: float) -> Surface:
    """Noise of a power law: clouds to sand."""
    stretch = rng.choice([1.0, rng.uniform(1, 6)])
    field = power_law(rng, side, rng.uniform(0.6, 2.0), stretch)
    tone = field if rng.random() < 0.5 else power_law(rng, side, rng.uniform(0.6, 1.6))
    return surface_of(rng, field, tone, scale / 12)


def clouds(rng: Random, side: int, scale: float) -> Surface:
    """Octaves of smooth noise, folded to ridges or billows half of the time."""
    field = perlin(rng, side, 2 * scale, int(rng.integers(2, 7)))
    if rng.random() < 0.5:
        field = np.abs(field) * rng.choice([-1.0, 1.0])
    return surface_of(rng, field, field + rng.uniform(0, 0.5) * white(rng, side), scale / 8)


def ripples(rng: Random, side: int, scale: float) -> Surface:
    """Gabor noise: from fingerprints and brushed fur to crossed ripples."""
    field = gabor(rng, side, scale, rng.uniform(0.1, 1.5), rng.uniform(0.8, 4))
    if rng.random() < 0.4:
        field = field + gabor(rng, side, scale * rng.uniform(0.5, 2), 0.3, 2)
    if rng.random() < 0.3:
        field = np.tanh(2 * field)
    return surface_of(rng, field, field, scale / 6)


def pebbles(rng: Random, side: int, scale: float) -> Surface:
    """Cells, each a stone of its own tone."""
    near, margin, number = cells(rng, side, scale, rng.uniform(0, 0.6))
    body = step(0, rng.uniform(0.1, 0.5), margin)
    domed = body * (1 - 0.5 * near)
    tone = rng.uniform(0.2, 1) * number * body + 0.2 * unit(perlin(rng, side, scale, 4))
    return surface_of(rng, domed, tone, scale / 5)


def cracks(rng: Random, side: int, scale: float) -> Surface:
    """Dried mud, leather, glaze: what runs between cells."""
    _, margin, number = cells(rng, side, scale, rng.uniform(0, 0.5))
    width = rng.uniform(0.03, 0.15)
    ground = warped(rng, margin, scale * rng.uniform(0.02, 0.15), scale / 2)
    gaps = step(width, 0.3 * width, ground)
    relief = (
        -gaps + 0.15 * perlin(rng, side, scale, 4) + rng.choice([0, 0.6]) * unit(np.sqrt(margin))
    )
    return surface_of(
        rng, relief, unit(perlin(rng, side, 3 * scale, 4)) + 0.2 * number - gaps, scale / 10
    )


def mazes(rng: Random, side: int, scale: float) -> Surface:
    """Reaction and diffusion."""
    field = grown(rng, side, scale)
    return surface_of(rng, field, field + 0.1 * perlin(rng, side, scale, 3), scale / 8)


def leaves(rng: Random, side: int, scale: float) -> Surface:
    """Dead leaves: shapes of a power law of sizes that cover each other."""
    tone, height = np.full((side, side), 0.5, np.float32), np.zeros((side, side), np.float32)
    kind = int(rng.integers(4))
    least, most = 0.35 * scale, 4 * scale
    count = int(min(600, 3 * (side / scale) ** 2 + 40))
    uniform = rng.random(count)
    sizes = 1 / np.sqrt(1 / most**2 + uniform * (1 / least**2 - 1 / most**2))
    for number, size in enumerate(np.sort(sizes)[::-1]):
        outline = _leaf(rng, size, kind) + rng.uniform(0, side, 2)
        points = np.round(outline * 16).astype(np.int32)
        cv2.fillPoly(tone, [points], float(rng.random()), cv2.LINE_AA, shift=4)
        cv2.fillPoly(
            height, [points], float(number / count + rng.random() * 0.2), cv2.LINE_AA, shift=4
        )
    grain = rng.uniform(0, 0.15) * perlin(rng, side, scale / 2, 3)
    return surface_of(rng, cv2.GaussianBlur(height, (0, 0), 0.7), tone + grain, scale / 10)


def wood(rng: Random, side: int, scale: float) -> Surface:
    """Year rings cut at a slant, with pores."""
    x, y = coordinates(side)
    along = x * rng.uniform(0.02, 0.15)
    bend = scale * rng.uniform(0.3, 2.5) * perlin(rng, side, 6 * scale, 3, rng.uniform(2, 5))
    rings = (np.hypot(along + bend, y + rng.uniform(-1, 1) * side) + bend) / (0.6 * scale)
    profile = (rings % 1) ** rng.uniform(1, 4)
    pores = step(1.3, 2.3, perlin(rng, side, 2.5, 1, rng.uniform(6, 20)))
    tone = profile + 0.3 * unit(power_law(rng, side, 0.8, 10)) - 0.5 * pores
    return surface_of(rng, 0.4 * profile - pores, tone, 0.7)


def marble(rng: Random, side: int, scale: float) -> Surface:
    """Waves folded by noise: marble, smoke, oil."""
    x, y = coordinates(side)
    fold = rng.uniform(1, 5) * perlin(rng, side, 4 * scale, 5)
    waves = np.sin((x + rng.uniform(-1, 1) * y) / scale * rng.uniform(0.3, 1.5) + fold)
    veins = waves if rng.random() < 0.5 else -(np.abs(waves) ** rng.uniform(0.2, 0.6))
    return surface_of(rng, veins, veins + 0.1 * perlin(rng, side, scale, 4), rng.uniform(0, 1))


def fibres(rng: Random, side: int, scale: float) -> Surface:
    """Felt, paper, hair, wool: many bent lines."""
    height = np.zeros((side, side), np.float32)
    tone = np.zeros((side, side), np.float32)
    count = int(np.clip(12 * (side / scale) ** 1.5, 60, 900))
    main, spread = rng.uniform(0, np.pi), rng.choice([0.15, 0.5, np.pi])
    thickness = max(1, round(scale * rng.uniform(0.05, 0.25)))
    length, bend = scale * rng.uniform(2, 8), rng.uniform(0.02, 0.35)
    angle = (
        main
        + spread * rng.uniform(-1, 1, (count, 1))
        + np.cumsum(bend * rng.standard_normal((count, 12)), 1)
    )
    steps = np.stack([np.cos(angle), np.sin(angle)], -1) * length / 12
    paths = np.cumsum(steps, axis=1) + rng.uniform(-0.1, 1.1, (count, 1, 2)) * side
    for index, path in enumerate(np.round(paths * 16).astype(np.int32)):
        cv2.polylines(
            height, [path], False, float(index / count + 0.3), thickness, cv2.LINE_AA, shift=4
        )
        cv2.polylines(
            tone, [path], False, float(rng.uniform(0.3, 1)), thickness, cv2.LINE_AA, shift=4
        )
    return surface_of(rng, cv2.GaussianBlur(height, (0, 0), 0.6), tone, thickness * 0.6)


def ferns(rng: Random, side: int, scale: float) -> Surface:
    """Attractors of iterated functions, some of them on each other."""
    count = int(rng.integers(1, 4))
    total = np.maximum.reduce([unit(iterated_functions(rng, side)) for _ in range(count)])
    return surface_of(rng, total, total, scale / 8)


def julias(rng: Random, side: int, scale: float) -> Surface:
    """Julia sets, banded half of the time."""
    field = unit(escape_time(rng, side))
    if rng.random() < 0.5:
        field = 0.5 + 0.5 * np.sin(field * rng.uniform(10, 60))
    return surface_of(rng, field, field, scale / 8)


def granite(rng: Random, side: int, scale: float) -> Surface:
    """Grains of several minerals in a matrix."""
    tone = 0.3 * perlin(rng, side, scale, 4)
    for _ in range(int(rng.integers(2, 5))):
        grain = perlin(rng, side, scale * rng.uniform(0.3, 1.2), 3)
        limit = rng.uniform(0.5, 1.8)
        tone = np.where(grain > limit, np.float32(rng.uniform(-2, 2)) + 0.1 * grain, tone)
    return surface_of(rng, tone + 0.3 * white(rng, side), tone, rng.uniform(0.1, 0.8))
