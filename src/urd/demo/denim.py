"""Denim that fills the frame: a twill of blue warp and pale weft yarns, slightly rotated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
)

PITCH = 0.052  # distance between yarns
BLUE = np.array((0.16, 0.25, 0.46), np.float32)
PALE = np.array((0.72, 0.73, 0.70), np.float32)


@dataclass(frozen=True)
class Yarns:
    """The warp and weft yarn of each point, and its distance from the axes of both."""

    warp: Map
    weft: Map
    warp_offset: Map
    weft_offset: Map


def render(rng: np.random.Generator, defect: str | None) -> tuple[Map, Map]:
    """A picture (H, W, 3) and the place of its defect (H, W), both at render size."""
    light = Light(-0.9 + rng.uniform(-0.2, 0.2), rng.uniform(0.75, 0.95), rng.uniform(0.92, 1.08))
    yarns = _lay(rng)
    cloth_seed = int(rng.integers(2**62))
    stencil = np.zeros((RENDER, RENDER), np.float32)
    missing, thick = stencil, stencil
    if defect == "missing_yarn":
        missing = stencil = _along_yarn(rng, yarns, 0.5)
    elif defect == "thick_yarn":
        thick = stencil = _along_yarn(rng, yarns, 0.75)
    cloth = _weave(np.random.default_rng(cloth_seed), yarns, missing, thick)
    if defect in DEFECTS:
        cloth, stencil = DEFECTS[defect](rng, cloth)
    return shade(cloth, light), stencil


def _lay(rng: np.random.Generator) -> Yarns:
    """Yarns through the frame: wavy, rotated by up to 3 degrees, shifted by up to a pitch."""
    shift = (rng.uniform(0, PITCH), rng.uniform(0, PITCH))
    x, y = grid(rng.uniform(-0.05, 0.05), shift, rng.uniform(0.97, 1.03))
    across, along = (x + 0.003 * noise(rng, 7)) / PITCH, (y + 0.003 * noise(rng, 7)) / PITCH
    warp, weft = np.floor(across), np.floor(along)
    return Yarns(warp, weft, across - warp - 0.5, along - weft - 0.5)


def _weave(rng: np.random.Generator, yarns: Yarns, missing: Map, thick: Map) -> Surface:
    """2/1 twill: each warp yarn goes over two wefts and under one, shifted by one per yarn."""
    warp_over = np.mod(yarns.warp + yarns.weft, 3) < 2
    warp_over = (warp_over | (missing > 0.5)) & ~(thick > 0.5)
    fibres = 0.02 * noise(rng, (40, 260)), 0.02 * noise(rng, (260, 40))
    roundness = np.where(warp_over, yarns.warp_offset, yarns.weft_offset)
    bow = np.where(warp_over, yarns.weft_offset, yarns.warp_offset)
    height = 0.018 * np.sqrt(np.clip(1 - (1.8 * roundness) ** 2, 0, 1)) - 0.01 * bow**2
    height = height - 0.014 * missing + 0.016 * thick
    height = height + 0.02 * np.where(warp_over, *fibres) * PITCH
    shades = 1 + 0.07 * rng.standard_normal(400)
    yarn = np.where(warp_over, yarns.warp, yarns.weft + 150).astype(np.int64) % 400
    tint = shades[yarn] + 0.05 * noise(rng, 3) + 0.06 * noise(rng, 180)
    colour = np.where(warp_over[..., None], BLUE, PALE) * tint[..., None]
    colour = (
        colour * (1 - 0.55 * missing[..., None]) * (1 - 0.3 * (np.abs(roundness) > 0.42))[..., None]
    )
    gloss = np.full((RENDER, RENDER), 0.06, np.float32)
    return Surface(height.astype(np.float32), colour.astype(np.float32), gloss)


def _along_yarn(rng: np.random.Generator, yarns: Yarns, share: float) -> Map:
    """A piece of one weft yarn: 1 up to the distance `share`, in pitches, from its axis."""
    x, y = _spot(rng)
    column = int((x + 1) * RENDER / 2)
    row = int((y + 1) * RENDER / 2)
    this = yarns.weft == yarns.weft[row, column]
    length = rng.uniform(5, 10)
    near = np.abs(yarns.warp - yarns.warp[row, column]) < length
    return (this & near & (np.abs(yarns.weft_offset) < share)).astype(np.float32)


def _spot(rng: np.random.Generator) -> tuple[float, float]:
    return rng.uniform(-0.75, 0.75), rng.uniform(-0.75, 0.75)


def _stain(rng: np.random.Generator, cloth: Surface) -> tuple[Surface, Map]:
    patch = blob(rng, *_spot(rng), rng.uniform(0.09, 0.17), rough=0.8)
    return paint(cloth, 0.6 * patch, (0.09, 0.07, 0.04), 0.25), patch


def _hole(rng: np.random.Generator, cloth: Surface) -> tuple[Surface, Map]:
    patch = blob(rng, *_spot(rng), rng.uniform(0.05, 0.1), rough=1.0)
    return paint(raise_by(cloth, -0.03 * patch), 0.95 * patch, (0.03, 0.03, 0.035), 0.0), patch


def _loose_thread(rng: np.random.Generator, cloth: Surface) -> tuple[Surface, Map]:
    line = curve(rng, *_spot(rng), rng.uniform(0.4, 0.7), rng.uniform(0.016, 0.024), 1.2)
    colours = ((0.8, 0.15, 0.12), (0.9, 0.88, 0.8), (0.12, 0.1, 0.1))
    colour = colours[int(rng.integers(len(colours)))]
    return paint(raise_by(cloth, 0.03 * line), line, colour, 0.2), line


DEFECTS: dict[str, Callable[[np.random.Generator, Surface], tuple[Surface, Map]]] = {
    "stain": _stain,
    "hole": _hole,
    "loose_thread": _loose_thread,
}
KINDS = (*DEFECTS, "missing_yarn", "thick_yarn")
