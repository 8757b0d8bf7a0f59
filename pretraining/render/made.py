"""Families of surfaces that are made: cloth, tiles, metal, circuits, print."""

from __future__ import annotations

import cv2
import numpy as np

from pretraining.render.fields import (
    Field,
    Random,
    cells,
    coordinates,
    perlin,
    power_law,
    smooth,
    standardised,
    step,
    turned,
    white,
)
from pretraining.render.surfaces import Surface, surface_of


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
    return surface_of(rng, thread + twist, tone + 0.05 * white(rng, side), pitch / 5)


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
    return surface_of(rng, body + 0.06 * grain, tone, joint)


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
    return surface_of(rng, relief, tone, pitch / 6)


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
    return surface_of(rng, lines, lines + 2 * smooth(rng, side, side / 2), 0.5, gloss)


def cast(rng: Random, side: int, scale: float) -> Surface:
    """Grains, pits and orange peel: cast, forged, sand-blasted, painted."""
    fine = perlin(rng, side, max(2.0, scale / 3), int(rng.integers(1, 4)))
    pits = step(rng.uniform(1.2, 2.2), 3.0, perlin(rng, side, scale / 1.5, 2))
    height = fine - rng.uniform(0, 4) * pits
    tone = 0.3 * fine + perlin(rng, side, 4 * scale, 4) - rng.uniform(0, 3) * pits
    return surface_of(rng, height, tone, scale / 14)


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
    return surface_of(rng, copper, tone, 1.0, 0.2 + 0.6 * pads)


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
    return surface_of(rng, ink * rng.choice([-1.0, 1.0]), tone, rng.choice([0.05, 1.0]))


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
    return surface_of(rng, height, tone, pitch / 4)


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
    return surface_of(rng, height, tone, scale / 5)
