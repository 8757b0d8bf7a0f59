"""Families of surfaces: each a function of a generator, a size and a scale.

A family is different from the others in how it comes about, not only in its numbers; it answers
with what the scene then colours, lights and photographs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

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
    smooth,
    standardised,
    step,
    turned,
    unit,
    warped,
    white,
)


@dataclass(frozen=True)
class Surface:
    """What light falls on, all (H, W) float32.

    Attributes:
        height: in pixels.
        tone: in [0, 1], which colour of the palette.
        gloss: in [0, 1].
    """

    height: Field
    tone: Field
    gloss: Field

    def __post_init__(self) -> None:
        for field in fields(self):  # OpenCV computes in one type at a time
            values = np.asarray(getattr(self, field.name), np.float32)
            object.__setattr__(self, field.name, values)


Family = Callable[[Random, int, float], Surface]
FAMILIES: dict[str, Family] = {}


def family(function: Family) -> Family:
    FAMILIES[function.__name__] = function
    return function


def _surface(
    rng: Random, height: Field, tone: Field, relief: float, gloss: Field | float | None = None
) -> Surface:
    """`relief`: the most that the height deviates, in pixels; how much is drawn, like the gloss."""
    if gloss is None:
        gloss = float(rng.uniform(0, 0.8) ** 2)
    shape = height.shape
    raised = standardised(height) * np.float32(relief * rng.uniform(0.15, 1))
    return Surface(raised, unit(tone), np.broadcast_to(gloss, shape))


@family
def spectral(rng: Random, side: int, scale: float) -> Surface:
    """Noise of a power law: clouds to sand."""
    stretch = rng.choice([1.0, rng.uniform(1, 6)])
    field = power_law(rng, side, rng.uniform(0.6, 2.0), stretch)
    tone = field if rng.random() < 0.5 else power_law(rng, side, rng.uniform(0.6, 1.6))
    return _surface(rng, field, tone, scale / 12)


@family
def clouds(rng: Random, side: int, scale: float) -> Surface:
    """Octaves of smooth noise, folded to ridges or billows half of the time."""
    field = perlin(rng, side, 2 * scale, int(rng.integers(2, 7)))
    if rng.random() < 0.5:
        field = np.abs(field) * rng.choice([-1.0, 1.0])
    return _surface(rng, field, field + rng.uniform(0, 0.5) * white(rng, side), scale / 8)


@family
def ripples(rng: Random, side: int, scale: float) -> Surface:
    """Gabor noise: from fingerprints and brushed fur to crossed ripples."""
    field = gabor(rng, side, scale, rng.uniform(0.1, 1.5), rng.uniform(0.8, 4))
    if rng.random() < 0.4:
        field = field + gabor(rng, side, scale * rng.uniform(0.5, 2), 0.3, 2)
    if rng.random() < 0.3:
        field = np.tanh(2 * field)
    return _surface(rng, field, field, scale / 6)


@family
def pebbles(rng: Random, side: int, scale: float) -> Surface:
    """Cells, each a stone of its own tone."""
    near, margin, number = cells(rng, side, scale, rng.uniform(0, 0.6))
    body = step(0, rng.uniform(0.1, 0.5), margin)
    domed = body * (1 - 0.5 * near)
    tone = rng.uniform(0.2, 1) * number * body + 0.2 * unit(perlin(rng, side, scale, 4))
    return _surface(rng, domed, tone, scale / 5)


@family
def cracks(rng: Random, side: int, scale: float) -> Surface:
    """Dried mud, leather, glaze: what runs between cells."""
    _, margin, number = cells(rng, side, scale, rng.uniform(0, 0.5))
    width = rng.uniform(0.03, 0.15)
    ground = warped(rng, margin, scale * rng.uniform(0.02, 0.15), scale / 2)
    gaps = step(width, 0.3 * width, ground)
    relief = (
        -gaps + 0.15 * perlin(rng, side, scale, 4) + rng.choice([0, 0.6]) * unit(np.sqrt(margin))
    )
    return _surface(
        rng, relief, unit(perlin(rng, side, 3 * scale, 4)) + 0.2 * number - gaps, scale / 10
    )


@family
def mazes(rng: Random, side: int, scale: float) -> Surface:
    """Reaction and diffusion."""
    field = grown(rng, side, scale)
    return _surface(rng, field, field + 0.1 * perlin(rng, side, scale, 3), scale / 8)


@family
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
    return _surface(rng, cv2.GaussianBlur(height, (0, 0), 0.7), tone + grain, scale / 10)


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


@family
def weaves(rng: Random, side: int, scale: float) -> Surface:
    """Threads over and under each other: plain, twill, satin, basket; plaids."""
    x, y = coordinates(side)
    pitch = max(3.0, 0.5 * scale)
    u = (x + rng.uniform(0, 0.2) * pitch * smooth(rng, side, 3 * scale)) / pitch
    v = (y + rng.uniform(0, 0.2) * pitch * smooth(rng, side, 3 * scale)) / (
        pitch * rng.uniform(0.7, 1.4)
    )
    over, period, shift = [(1, 2, 1), (2, 3, 1), (2, 4, 1), (3, 4, 1), (4, 5, 2)][rng.integers(5)]
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    warp_up = (i + shift * j) % period < over
    across = np.abs((np.where(warp_up, u, v) % 1) - 0.5) * 2
    along = (np.where(warp_up, v, u) % 1) - 0.5
    thread = np.sqrt(np.clip(1 - 0.9 * across**2, 0, 1)) * (1 - 0.6 * (2 * along) ** 2 / over)
    twist = 0.12 * np.sin(2 * np.pi * (along * rng.uniform(2, 5) + across))
    shade_of = rng.random(64, dtype=np.float32)
    stripes = int(rng.choice([1, 1, 2, 6, 12]))
    warp_tone, weft_tone = shade_of[(i // stripes) % 32], shade_of[32 + (j // stripes) % 32]
    if stripes == 1:
        warp_tone, weft_tone = shade_of[0] + 0.1 * warp_tone, shade_of[1] + 0.1 * weft_tone
    tone = np.where(warp_up, warp_tone, weft_tone) * (0.7 + 0.3 * thread)
    return _surface(rng, thread + twist, tone + 0.05 * white(rng, side), pitch / 5)


@family
def tiles(rng: Random, side: int, scale: float) -> Surface:
    """Bricks, tiles and planks with joints between them."""
    x, y = coordinates(side)
    wide, high = 2 * scale * rng.uniform(0.6, 2), 2 * scale * rng.uniform(0.5, 1)
    row = np.floor(y / high)
    u = x / wide + row * rng.choice([0, 0.5, 1 / 3])
    joint = rng.uniform(0.02, 0.12) * high
    edge = np.minimum(
        np.minimum(u % 1, 1 - u % 1) * wide, np.minimum((y / high) % 1, 1 - (y / high) % 1) * high
    )
    edge = edge + 0.2 * joint * perlin(rng, side, scale, 3)
    body = step(0.5 * joint, joint * rng.uniform(1, 3), edge)
    numbers = rng.random(997, dtype=np.float32)
    of_tile = numbers[(np.floor(u).astype(int) * 31 + row.astype(int) * 57) % 997]
    grain = perlin(rng, side, scale, 5, rng.uniform(1, 4))
    tone = body * (0.5 + rng.uniform(0, 0.5) * of_tile) + rng.uniform(0, 0.15) * grain
    return _surface(rng, body + 0.06 * grain, tone, joint)


@family
def lattices(rng: Random, side: int, scale: float) -> Surface:
    """Perforated sheet, mesh, honeycomb, studs: one shape again and again."""
    x, y = coordinates(side)
    pitch = max(4.0, scale)
    row = np.floor(y / pitch)
    u = (x / pitch + (row % 2) * rng.choice([0, 0.5])) % 1 - 0.5
    v = (y / pitch) % 1 - 0.5
    size = rng.uniform(0.2, 0.44)
    norm = rng.choice([1.0, 2.0, 2.0, 6.0])
    distance = (np.abs(u) ** norm + np.abs(v * rng.uniform(0.8, 1.6)) ** norm) ** (1 / norm)
    distance = distance + rng.uniform(0, 0.03) * smooth(rng, side, pitch)
    soft = max(1.0 / pitch, rng.uniform(0, 0.15))
    shape = step(size + soft / 2, size - soft / 2, distance)
    relief = shape * rng.choice([-1.0, 1.0])
    if rng.random() < 0.4:
        relief = relief * np.sqrt(np.clip(1 - (distance / (size + 0.05)) ** 2, 0, 1))
    tone = shape * rng.choice([0.0, 0.6, 1.0]) + 0.1 * perlin(rng, side, 2 * scale, 4)
    return _surface(rng, relief, tone, pitch / 6)


@family
def brushed(rng: Random, side: int, scale: float) -> Surface:
    """Metal after brush, lathe or mill: lines, circles or arcs."""
    x, y = coordinates(side)
    lines = standardised(
        perlin(rng, side, max(2.0, scale / 6), 3, rng.uniform(10, 60))
        + 0.3 * power_law(rng, side, 0.7, 12)
    )
    if rng.random() < 0.35:
        cx, cy = rng.uniform(-0.6, 0.6, 2) * side
        radius = np.hypot(x - cx, y - cy)
        turn = np.arctan2(y - cy, x - cx) * side / np.pi
        lines = cv2.remap(
            lines,
            np.mod(turn, side).astype(np.float32),
            np.mod(radius, side).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
    gloss = 0.3 + 0.7 * rng.random()
    return _surface(rng, lines, lines + 2 * smooth(rng, side, side / 2), 0.5, gloss)


@family
def cast(rng: Random, side: int, scale: float) -> Surface:
    """Grains, pits and orange peel: cast, forged, sand-blasted, painted."""
    fine = perlin(rng, side, max(2.0, scale / 3), int(rng.integers(1, 4)))
    pits = step(rng.uniform(1.2, 2.2), 3.0, perlin(rng, side, scale / 1.5, 2))
    height = fine - rng.uniform(0, 4) * pits
    tone = 0.3 * fine + perlin(rng, side, 4 * scale, 4) - rng.uniform(0, 3) * pits
    return _surface(rng, height, tone, scale / 14)


@family
def wood(rng: Random, side: int, scale: float) -> Surface:
    """Year rings cut at a slant, with pores."""
    x, y = coordinates(side)
    along = x * rng.uniform(0.02, 0.15)
    bend = scale * rng.uniform(0.3, 2.5) * perlin(rng, side, 6 * scale, 3, rng.uniform(2, 5))
    rings = (np.hypot(along + bend, y + rng.uniform(-1, 1) * side) + bend) / (0.6 * scale)
    profile = (rings % 1) ** rng.uniform(1, 4)
    pores = step(1.3, 2.3, perlin(rng, side, 2.5, 1, rng.uniform(6, 20)))
    tone = profile + 0.3 * unit(power_law(rng, side, 0.8, 10)) - 0.5 * pores
    return _surface(rng, 0.4 * profile - pores, tone, 0.7)


@family
def marble(rng: Random, side: int, scale: float) -> Surface:
    """Waves folded by noise: marble, smoke, oil."""
    x, y = coordinates(side)
    fold = rng.uniform(1, 5) * perlin(rng, side, 4 * scale, 5)
    waves = np.sin((x + rng.uniform(-1, 1) * y) / scale * rng.uniform(0.3, 1.5) + fold)
    veins = waves if rng.random() < 0.5 else -(np.abs(waves) ** rng.uniform(0.2, 0.6))
    return _surface(rng, veins, veins + 0.1 * perlin(rng, side, scale, 4), rng.uniform(0, 1))


@family
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
    return _surface(rng, cv2.GaussianBlur(height, (0, 0), 0.6), tone, thickness * 0.6)


@family
def ferns(rng: Random, side: int, scale: float) -> Surface:
    """Attractors of iterated functions, some of them on each other."""
    count = int(rng.integers(1, 4))
    total = np.maximum.reduce([unit(iterated_functions(rng, side)) for _ in range(count)])
    return _surface(rng, total, total, scale / 8)


@family
def julias(rng: Random, side: int, scale: float) -> Surface:
    """Julia sets, banded half of the time."""
    field = unit(escape_time(rng, side))
    if rng.random() < 0.5:
        field = 0.5 + 0.5 * np.sin(field * rng.uniform(10, 60))
    return _surface(rng, field, field, scale / 8)


@family
def granite(rng: Random, side: int, scale: float) -> Surface:
    """Grains of several minerals in a matrix."""
    tone = 0.3 * perlin(rng, side, scale, 4)
    for _ in range(int(rng.integers(2, 5))):
        grain = perlin(rng, side, scale * rng.uniform(0.3, 1.2), 3)
        limit = rng.uniform(0.5, 1.8)
        tone = np.where(grain > limit, np.float32(rng.uniform(-2, 2)) + 0.1 * grain, tone)
    return _surface(rng, tone + 0.3 * white(rng, side), tone, rng.uniform(0.1, 0.8))


@family
def circuits(rng: Random, side: int, scale: float) -> Surface:
    """Traces and pads on a board."""
    pitch = max(4.0, 0.6 * scale)
    count = int(side / pitch) + 2
    canvas = np.zeros((side, side), np.float32)
    pads = np.zeros((side, side), np.float32)
    width = max(1, round(pitch * rng.uniform(0.2, 0.45)))
    moves = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (1, -1)])
    for _ in range(int(count * rng.uniform(1.5, 4))):
        place = rng.integers(0, count, 2)
        path = [place]
        for _ in range(int(rng.integers(1, 5))):
            place = place + moves[rng.integers(6)] * rng.integers(1, 8)
            path.append(place)
        points = np.round(np.array(path) * pitch * 16).astype(np.int32)
        cv2.polylines(canvas, [points], False, 1.0, width, cv2.LINE_AA, shift=4)
        if rng.random() < 0.6:
            for end in (points[0], points[-1]):
                cv2.circle(
                    pads, end.tolist(), round(pitch * 0.45 * 16), 1.0, -1, cv2.LINE_AA, shift=4
                )
    copper = np.maximum(canvas, pads)
    tone = (
        0.1 * perlin(rng, side, scale, 3)
        + copper * rng.uniform(0.4, 1)
        + pads * rng.uniform(-0.5, 1)
    )
    return _surface(rng, copper, tone, 1.0, 0.2 + 0.6 * pads)


@family
def print_(rng: Random, side: int, scale: float) -> Surface:
    """Letters, numbers, codes and rules, printed or embossed."""
    page = np.zeros((side, side), np.uint8)
    size = max(0.25, scale / 28)
    line = 30 * size * rng.uniform(1.1, 2)
    letters = np.array(
        list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-/#%&()[]<>=*.,:")
    )
    font = int(rng.choice([0, 1, 2, 3, 4, 6, 7]))
    y = rng.uniform(0, line)
    while y < side + line:
        kind = rng.random()
        left = int(rng.uniform(-20, side / 3))
        if kind < 0.7:
            text = "".join(rng.choice(letters, int(rng.integers(3, 24))))
            cv2.putText(
                page, text, (left, int(y)), font, size, 255, max(1, round(1.5 * size)), cv2.LINE_AA
            )
        elif kind < 0.85:
            bars = np.repeat(rng.random(60) < 0.5, max(1, round(2 * size))).astype(np.uint8) * 255
            bars = bars[: max(1, side - max(left, 0))]
            top, start = max(0, int(y - line)), max(left, 0)
            page[top : max(0, int(y)), start : start + len(bars)] = bars
        else:
            cv2.line(page, (left, int(y)), (side, int(y)), 255, max(1, round(3 * size)))
        y += line
    ink = page.astype(np.float32) / 255
    tone = 0.15 * perlin(rng, side, 2 * scale, 5) + ink * rng.choice([-1.0, 1.0])
    return _surface(rng, ink * rng.choice([-1.0, 1.0]), tone, rng.choice([0.05, 1.0]))


@family
def ribs(rng: Random, side: int, scale: float) -> Surface:
    """Threads, grooves and knurls: one profile repeated along one or two directions."""
    x, y = coordinates(side)
    pitch = max(3.0, 0.8 * scale)
    sharp = rng.uniform(0.4, 3)

    def profile(along: Field) -> Field:
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * along / pitch + rng.uniform(0, 6))
        return wave**sharp if rng.random() < 0.7 else np.abs((along / pitch) % 1 - 0.5) * 2

    bend = rng.uniform(0, 0.3) * pitch * smooth(rng, side, 4 * scale)
    height = profile(x + bend)
    if rng.random() < 0.4:
        u, _ = turned(x, y, rng.uniform(0.6, 2.2))
        height = np.minimum(height, profile(u)) if rng.random() < 0.5 else height * profile(u)
    tone = rng.uniform(0, 0.8) * height + 0.15 * perlin(rng, side, 2 * scale, 4)
    return _surface(rng, height, tone, pitch / 4)


@family
def foam(rng: Random, side: int, scale: float) -> Surface:
    """Bubbles of many sizes: sponge, bread, foam, porous ceramics."""
    height = np.zeros((side, side), np.float32)
    for level in range(int(rng.integers(2, 4))):
        near, _, number = cells(rng, side, scale * 1.6 / 1.8**level, rng.uniform(0, 0.4))
        radius = 0.15 + 0.4 * number
        hole = np.sqrt(np.clip(1 - (near / radius) ** 2, 0, 1))
        height = np.minimum(height, -hole * radius)
    height = height * rng.choice([-1.0, 1.0, 1.0])
    tone = height * rng.uniform(0, 2) + 0.1 * perlin(rng, side, scale, 4)
    return _surface(rng, height, tone, scale / 5)
