"""A photograph: surfaces and parts, their colours, wear, light, the camera.

`render_scene` is a pure function of its two numbers. What decides the picture and an encoder could
be asked for is kept with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pretraining.render.colour import coloured, palette
from pretraining.render.families import FAMILIES
from pretraining.render.fields import Field, Random, perlin, smooth, step
from pretraining.render.objects import body
from pretraining.render.surfaces import Surface

SIZE = 256
_SIDE = 320  # rendered with a margin, so that perspective leaves no empty corner
_NAMES = tuple(FAMILIES)
_SCALES = (5.0, 70.0)
_CONTRAST_AT_LEAST = 8.0

# What a scene's parameters are and how many values each may take.
PARAMETERS = {
    "family": len(_NAMES),
    "scale": 6,
    "light": 8,
    "gloss": 3,
    "layout": 4,
    "wear": 2,
}


@dataclass(frozen=True)
class Scene:
    """`image` (256, 256, 3) uint8; `parameters`: a whole number for each of `PARAMETERS`."""

    image: NDArray[np.uint8]
    parameters: dict[str, int]


def render_scene(seed: int, index: int) -> Scene:
    """The scene of these numbers; one that shows next to nothing is drawn anew."""
    for attempt in range(20):
        scene = _draw(np.random.default_rng((seed, index, attempt)), index)
        if scene.image.std(axis=(0, 1)).max() >= _CONTRAST_AT_LEAST:
            break
    return scene


def _draw(rng: Random, index: int) -> Scene:
    name = _NAMES[index % len(_NAMES)]  # every family equally often
    log_scale = rng.random()
    layout = int(rng.choice(4, p=[0.5, 0.2, 0.2, 0.1]))
    surface, colour = _material(rng, name, _scale(log_scale))
    if layout == 1:
        surface, colour, shadow = _with_parts(rng, surface, colour, count=1)
    elif layout == 2:
        surface, colour, shadow = _with_parts(rng, surface, colour, int(rng.integers(2, 9)))
    elif layout == 3:
        surface, colour, shadow = *_collage(rng, surface, colour), None
    else:
        shadow = None
    worn = int(rng.random() < 0.5)
    if worn:
        surface, colour = _wear(rng, surface, colour)
    azimuth = rng.uniform(0, 2 * np.pi)
    picture = _lit(rng, surface, colour, azimuth, shadow)
    gloss = float(surface.gloss.mean())
    return Scene(
        _photograph(rng, picture),
        {
            "family": _NAMES.index(name),
            "scale": int(log_scale * PARAMETERS["scale"]),
            "light": int(azimuth / (2 * np.pi) * PARAMETERS["light"]) % PARAMETERS["light"],
            "gloss": int(np.digitize(gloss, (0.1, 0.4))),
            "layout": layout,
            "wear": worn,
        },
    )


def _scale(share: float) -> float:
    low, high = _SCALES
    return float(low * (high / low) ** share)


def _material(rng: Random, name: str, scale: float) -> tuple[Surface, Field]:
    surface = FAMILIES[name](rng, _SIDE, scale)
    colours = palette(rng, int(rng.integers(2, 7)))
    return surface, coloured(surface.tone, colours)


def _any_material(rng: Random) -> tuple[Surface, Field]:
    return _material(rng, _NAMES[rng.integers(len(_NAMES))], _scale(rng.random()))


def _with_parts(
    rng: Random, surface: Surface, colour: Field, count: int
) -> tuple[Surface, Field, Field]:
    """Parts of one or two materials on the surface, and the shadow (1: none) that they cast."""
    parts = [_any_material(rng) for _ in range(min(count, 2))]
    shadow = np.ones((_SIDE, _SIDE), np.float32)
    radius = _SIDE * (rng.uniform(0.2, 0.42) if count == 1 else rng.uniform(0.07, 0.18))
    offset = rng.uniform(-0.15, 0.15, 2) * radius
    darkness, blur = rng.uniform(0, 0.7), radius * rng.uniform(0.03, 0.25)
    plain = smooth(rng, _SIDE, _SIDE / 2) * 0.05  # a part may be bare, a background too
    if rng.random() < 0.5:
        surface = Surface(0.1 * surface.height, surface.tone, 0.3 * surface.gloss)
        colour = colour.mean((0, 1)) + 0.15 * (colour - colour.mean((0, 1))) + plain[..., None]
    reach = 0.12 if count == 1 else 0.5
    for index in range(count):
        stencil, height = body(rng, _SIDE, radius * rng.uniform(0.8, 1.1))
        shift = rng.uniform(-reach, reach, 2) * _SIDE
        stencil, height = _moved(stencil, shift), _moved(height, shift)
        shade = cv2.GaussianBlur(_moved(stencil, offset), (0, 0), max(blur, 0.8))
        shadow = np.minimum(shadow, np.maximum(1 - darkness * shade, stencil))
        of_part, its_colour = parts[index % len(parts)]
        cover = stencil[..., None]
        colour = colour * (1 - cover) + its_colour * cover
        surface = Surface(
            surface.height * (1 - stencil)
            + (height + rng.choice([0.3, 1]) * of_part.height) * stencil,
            surface.tone,
            surface.gloss * (1 - stencil) + of_part.gloss * stencil,
        )
    return surface, colour.astype(np.float32), shadow


def _moved(field: Field, shift: Field) -> Field:
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    return cv2.warpAffine(field, matrix, field.shape[::-1])


def _collage(rng: Random, surface: Surface, colour: Field) -> tuple[Surface, Field]:
    """Two to four surfaces beside each other, cut by straight or waved seams."""
    for _ in range(int(rng.integers(1, 4))):
        other, its_colour = _any_material(rng)
        side = smooth(rng, _SIDE, _SIDE * rng.uniform(0.3, 1.5))
        share = step(0.0, rng.choice([0.02, 0.1]), side + rng.uniform(-0.5, 0.5))
        surface = Surface(
            surface.height * (1 - share) + other.height * share,
            surface.tone,
            surface.gloss * (1 - share) + other.gloss * share,
        )
        colour = colour * (1 - share[..., None]) + its_colour * share[..., None]
    return surface, colour.astype(np.float32)


def _wear(rng: Random, surface: Surface, colour: Field) -> tuple[Surface, Field]:
    """Scratches, stains, dents and dust: what happens to every surface in the end."""
    mark = np.zeros((_SIDE, _SIDE), np.float32)
    for _ in range(int(rng.geometric(0.25))):
        start = rng.uniform(0, _SIDE, 2)
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.08, 16))
        path = start + np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1), 0) * rng.uniform(
            1, 14
        )
        cv2.polylines(
            mark,
            [np.round(path * 16).astype(np.int32)],
            False,
            float(rng.uniform(0.3, 1)),
            int(rng.integers(1, 4)),
            cv2.LINE_AA,
            shift=4,
        )
    stain = step(1.0, rng.uniform(1.1, 2.5), perlin(rng, _SIDE, rng.uniform(15, 90), 4))
    dent = step(1.4, 2.4, smooth(rng, _SIDE, rng.uniform(20, 60)))
    specks = (rng.random((_SIDE, _SIDE)) < rng.uniform(0, 0.003)).astype(np.float32)
    dust = cv2.dilate(specks, np.ones((2, 2), np.uint8))
    tint, bare = palette(rng, 2)
    amount = rng.uniform(0, 0.9) * stain
    colour = colour * (1 - amount[..., None] * (1 - tint))
    cover = np.maximum(mark * rng.uniform(0, 0.9), dust)[..., None]
    height = surface.height - mark * rng.uniform(0, 1.5) - dent * rng.uniform(0, 6)
    worn = colour * (1 - cover) + bare * cover
    return replace(surface, height=height.astype(np.float32)), worn.astype(np.float32)


def _lit(
    rng: Random, surface: Surface, colour: Field, azimuth: float, shadow: Field | None
) -> Field:
    """Diffuse and glossy reflection of one lamp and of the room, (H, W, 3)."""
    height = cv2.GaussianBlur(surface.height, (0, 0), rng.uniform(0.4, 1.2))
    slope_x = cv2.Scharr(height, cv2.CV_32F, 1, 0) / 32
    slope_y = cv2.Scharr(height, cv2.CV_32F, 0, 1) / 32
    elevation = rng.uniform(0.3, 1.4)
    flat = np.cos(elevation)
    lamp = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], np.float32)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    facing = np.clip((lamp[2] - slope_x * lamp[0] - slope_y * lamp[1]) / length, 0, None)
    half = lamp + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    shine = (half[2] - slope_x * half[0] - slope_y * half[1]) / length
    shine = np.clip(shine, 0, 1) ** rng.uniform(8, 60)
    room = rng.uniform(0.2, 0.7)
    light = room + (1.1 - room) * facing / max(float(lamp[2]), 0.35)
    if shadow is not None:
        light, shine = light * shadow, shine * shadow
    fall_off = 1 + rng.uniform(0, 0.25) * smooth(rng, _SIDE, 1.5 * _SIDE)
    lamp_colour = 1 + rng.normal(0, 0.06, 3).astype(np.float32)
    lit = colour * (light * fall_off)[..., None] * lamp_colour
    return (lit + 0.6 * (surface.gloss * shine)[..., None]).astype(np.float32)


def _photograph(rng: Random, picture: Field) -> NDArray[np.uint8]:
    """Turned, seen at a slant, out of focus a little; exposure, gamma, sensor noise."""
    middle = _SIDE / 2
    angle, zoom = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.0)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * SIZE / 2 * zoom
    slant = 1 + rng.uniform(0, 0.18) * np.sin(
        np.array([0.25, 0.75, 1.25, 1.75]) * np.pi + rng.uniform(0, 6)
    )
    quarter = np.round(angle / (np.pi / 2)) * np.pi / 2
    angle = quarter + rng.uniform(-0.12, 0.12)  # quarter turns leave the frame full
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    source = (corners * slant[:, None] * 0.95) @ rotation.T + middle
    target = np.array([(0, 0), (SIZE, 0), (SIZE, SIZE), (0, SIZE)], np.float32)
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target)
    seen = cv2.warpPerspective(
        picture, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    if rng.random() < 0.5:
        seen = cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.3, 1.2))
    exposure = rng.uniform(0.75, 1.2)
    clean = np.clip(seen * exposure, 0, 1) ** rng.uniform(0.6, 1.1)
    noisy = clean + rng.uniform(0, 0.02) * rng.standard_normal(seen.shape, dtype=np.float32)
    return (np.clip(noisy, 0, 1) * 255).round().astype(np.uint8)
