"""Scalar fields, (H, W) float32: noises, cells, fractals, patterns that grow.

A field is a square of `side` pixels and, unless its docstring says otherwise, of zero mean and unit
deviation; `scale` is its typical wavelength in pixels.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Field = NDArray[Any]  # OpenCV's annotations know no narrower type
Random = np.random.Generator


def standardised(field: Field) -> Field:
    field = field.astype(np.float32)
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def unit(field: Field) -> Field:
    """Moved to [0, 1] by its 1 % and 99 % quantiles."""
    low, high = np.quantile(field[::3, ::3], (0.01, 0.99))
    return np.clip((field - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)


def step(low: float, high: float, field: Field) -> Field:
    """0 below `low`, 1 above `high`, smooth between; the limits may be given in falling order."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def coordinates(side: int) -> tuple[Field, Field]:
    """x and y in pixels, from the middle."""
    axis = np.arange(side, dtype=np.float32) - (side - 1) / 2
    return np.meshgrid(axis, axis)


def turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def white(rng: Random, side: int) -> Field:
    return rng.standard_normal((side, side), dtype=np.float32)


def smooth(rng: Random, side: int, scale: float, stretch: float = 1.0) -> Field:
    """Band-limited noise; `stretch` > 1 draws it out along x."""
    columns, rows = (max(2, round(side / s)) + 3 for s in (scale * stretch, scale))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    return standardised(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))


def perlin(rng: Random, side: int, scale: float, octaves: int, stretch: float = 1.0) -> Field:
    """Octaves of smooth noise, each half as wide and of a drawn share of the last one's height."""
    falloff = rng.uniform(0.4, 0.75)
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        wavelength = scale / 2**octave
        if wavelength < 1:
            break
        total += falloff**octave * smooth(rng, side, wavelength, stretch)
    return standardised(total)


def power_law(rng: Random, side: int, exponent: float, stretch: float = 1.0) -> Field:
    """Noise whose amplitude falls with frequency to the power of `exponent`; natural images: 1."""
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    frequency = np.sqrt(rows**2 + (columns * stretch) ** 2)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(white(rng, side)) * frequency ** (-exponent)
    return standardised(np.fft.irfft2(spectrum, (side, side)))


def gabor(rng: Random, side: int, scale: float, spread: float, envelope: float) -> Field:
    """Noise of one wavelength; `spread` of its directions in radians, `envelope` in wavelengths."""
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    radius = np.sqrt(rows**2 + columns**2)
    angle = np.arctan2(rows, columns + 1e-9)
    ring = np.exp(-(((radius - 1 / scale) * scale * envelope) ** 2) * 4)
    centre = rng.uniform(-np.pi / 2, np.pi / 2)
    turn = np.angle(np.exp(2j * (angle - centre))) / 2
    spectrum = np.fft.rfft2(white(rng, side)) * ring * np.exp(-((turn / spread) ** 2))
    return standardised(np.fft.irfft2(spectrum, (side, side)))


def warped(rng: Random, field: Field, strength: float, scale: float) -> Field:
    """The field with its places moved by smooth noise of `strength` pixels."""
    side = field.shape[0]
    x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    x += np.float32(strength) * smooth(rng, side, scale)
    y += np.float32(strength) * smooth(rng, side, scale)
    return cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def cells(rng: Random, side: int, scale: float, regular: float) -> tuple[Field, Field, Field]:
    """Worley cells: distance to the nearest point, margin to the second, and a number per cell.

    `regular` 0: points anywhere; 1: on a grid. Distances are in units of `scale`, numbers in
    [0, 1].
    """
    count = max(2, round(side / scale)) + 2
    lattice = np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2) - 0.5
    jitter = (1 - regular) * rng.uniform(-0.9, 0.9, lattice.shape)
    points = (lattice + jitter) * scale
    half = (side + 1) // 2  # found at half the size: the fields are smooth but at their edges
    axis = (np.arange(half) + 0.5) * 2
    where = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    distance, index = cKDTree(points).query(where, k=2)
    near, far = (
        cv2.resize((distance[:, i] / scale).reshape(half, half).astype(np.float32), (side, side))
        for i in (0, 1)
    )
    of_cell = rng.random(len(points), dtype=np.float32)[index[:, 0]].reshape(half, half)
    number = cv2.resize(of_cell, (side, side), interpolation=cv2.INTER_NEAREST)
    return near, far - near, number


def grown(rng: Random, side: int, scale: float) -> Field:
    """Spots, stripes and mazes of reaction and diffusion: near excitation, far inhibition.

    Each round subtracts a wide blur from a narrow one and saturates; the widths set the scale.
    """
    field = white(rng, side)
    narrow = scale / 5
    bias = rng.uniform(-0.5, 0.5)
    stretch = rng.uniform(1, 1.8)
    for _ in range(12):
        near = cv2.GaussianBlur(field, (0, 0), narrow * stretch, sigmaY=narrow)
        far = cv2.GaussianBlur(field, (0, 0), narrow * 1.8 * stretch, sigmaY=narrow * 1.8)
        field = np.tanh(2.5 * standardised(near - far) + bias)
    return standardised(field)


def iterated_functions(rng: Random, side: int) -> Field:
    """Attractor of random iterated functions (Barnsley), as the logarithm of its density."""
    maps = rng.integers(2, 6)
    turns = rng.uniform(-np.pi, np.pi, (maps, 2))
    shrink = np.sort(rng.uniform(0.25, 0.85, (maps, 2)), axis=1)
    linear = np.stack(
        [_rotation(a) @ np.diag(s) @ _rotation(b) for (a, b), s in zip(turns, shrink, strict=True)]
    )
    shift = rng.uniform(-1, 1, (maps, 2))
    areas = np.abs(np.linalg.det(linear)) + 0.02
    points = rng.uniform(-1, 1, (3000, 2))
    visited = []
    for round_ in range(40):
        choice = rng.choice(maps, len(points), p=areas / areas.sum())
        points = np.einsum("nij,nj->ni", linear[choice], points) + shift[choice]
        if round_ >= 12:
            visited.append(points)
    cloud = np.concatenate(visited)
    low, high = np.quantile(cloud, 0.01, axis=0), np.quantile(cloud, 0.99, axis=0)
    bins = ((cloud - low) / (high - low + 1e-6) * 0.9 + 0.05) * side
    inside = ((bins >= 0) & (bins < side)).all(axis=1)
    column, row = bins[inside].astype(int).T
    density = np.bincount(row * side + column, minlength=side * side).reshape(side, side)
    return standardised(np.log1p(cv2.GaussianBlur(density.astype(np.float32), (0, 0), 0.8)))


def _rotation(angle: float) -> Field:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def escape_time(rng: Random, side: int) -> Field:
    """A part of a Julia set: how long z -> z^n + c stays small, smoothed."""
    power = int(rng.choice([2, 2, 2, 3, 4]))
    angle = rng.uniform(0, 2 * np.pi)
    c = complex(0.7885 * np.exp(1j * angle)) * rng.uniform(0.85, 1.05)
    zoom = 10 ** rng.uniform(-1.2, 0.2)
    centre = complex(*rng.uniform(-0.5, 0.5, 2))
    half = (side + 1) // 2
    axis = np.linspace(-zoom, zoom, half)
    z = (axis[None, :] + 1j * axis[:, None] + centre).astype(np.complex64)
    time = np.zeros((half, half), np.float32)
    alive = np.ones((half, half), bool)
    for _ in range(48):
        z = np.where(alive, z**power + c, z).astype(np.complex64)
        size = np.abs(z)
        time += np.where(alive, np.exp(-size), 0)
        alive &= size < 4
    return standardised(
        np.log1p(cv2.resize(time, (side, side), interpolation=cv2.INTER_CUBIC).clip(0))
    )
