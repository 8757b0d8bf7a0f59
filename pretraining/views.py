"""Make views of the rendered images: cut out, turned, damaged, and seen by another camera.

All random numbers come from the generator that is passed, so a step has the same views on every
device. NumPy and OpenCV make the views on the CPU during the previous step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Random = np.random.Generator
Images = NDArray[np.uint8]

_ZOOM = (0.25, 1.0)  # side of the view, as a share of the image's side
_CONTRAST = (0.5, 1.6)
_BLUR_SIGMA = 1.2
_DAMAGED = 0.7  # share of damaged views
_AREA = (0.006, 0.126)  # area of the damage, as a share of the view's area


@dataclass(frozen=True)
class Views:
    """Views of B images: the first view of all images, then the second of all.

    Attributes:
        pixels: (V, 3, side, side) in [0, 1], apart from noise; V is a multiple of B.
        places: (V, 2, 3), affine maps from a view's coordinates in [-1, 1] to its image's.
        damage: (V, 1, side, side), 1 where a view is damaged, 0 elsewhere.
    """

    pixels: Tensor
    places: Tensor
    damage: Tensor


def make_views(images: Images, count: int, side: int, random: Random, damaged: bool) -> Views:
    """`count` views of each of the images (B, H, H, 3)."""
    places = placements(count * len(images), random)
    seen = cut(np.concatenate([images] * count), places, side)
    mask = np.zeros(seen.shape[:3], np.float32)
    if damaged:
        whole = seen.copy()
        for index in np.flatnonzero(random.random(len(seen)) < _DAMAGED):
            seen[index], mask[index] = damage(whole[index], whole[index - 1], random)
    pixels = photographed(torch.from_numpy(seen).permute(0, 3, 1, 2).float() / 255, random)
    return Views(pixels, torch.from_numpy(places), torch.from_numpy(mask)[:, None])


def placements(count: int, random: Random) -> NDArray[np.float32]:
    """Draw affine maps (count, 2, 3) from a view's coordinates in [-1, 1] to the image's."""
    zoom = np.exp(random.uniform(math.log(_ZOOM[0]), math.log(_ZOOM[1]), count))
    stretch = np.exp(random.uniform(-0.25, 0.25, count))
    angle = random.integers(4, size=count) * np.pi / 2 + random.uniform(-0.25, 0.25, count)
    flip = random.choice([-1.0, 1.0], count)
    cos, sin = np.cos(angle), np.sin(angle)
    wide, high = zoom * np.sqrt(stretch) * flip, zoom / np.sqrt(stretch)
    linear = np.stack([wide * cos, -high * sin, wide * sin, high * cos], 1).reshape(-1, 2, 2)
    shift = random.uniform(-1, 1, (count, 2)) * (1 - zoom)[:, None]
    return np.concatenate([linear, shift[:, :, None]], axis=2).astype(np.float32)


def cut(images: Images, places: NDArray[np.float32], side: int) -> Images:
    """Cut one view from each image, (V, side, side, 3); outside, the image is mirrored.

    If a view is coarser than its image, the image is first halved by means of 2x2 squares until the
    scales agree, because sampling alone would alias.
    """
    views = np.empty((len(images), side, side, 3), np.uint8)
    for view, image, place in zip(views, images, places, strict=True):
        pixels = math.sqrt(abs(float(np.linalg.det(place[:, :2])))) * len(image) / side
        for _ in range(round(math.log2(max(1.0, pixels)))):
            image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        # Pixel p has the coordinate (2 p + 1) / side - 1, in the view and, with its side, in the
        # image. The matrix maps pixel numbers of the view to those of the image.
        half = len(image) / 2
        matrix = np.empty((2, 3))
        matrix[:, :2] = place[:, :2] * (2 * half / side)
        matrix[:, 2] = (place[:, :2].sum(1) * (1 / side - 1) + place[:, 2] + 1) * half - 0.5
        cv2.warpAffine(
            image,
            matrix,
            (side, side),
            dst=view,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
    return views


def damage(view: Images, other: Images, random: Random) -> tuple[Images, NDArray[np.float32]]:
    """Damage a view (side, side, 3) in a blot; return the view and the blot's mask (side, side).

    The blot shows another view, or the same view brighter or darker, blurred, moved or turned. None
    of these can be recognised without the rest of the view.
    """
    side = len(view)
    blots = random.standard_normal((int(random.integers(3, 13)),) * 2).astype(np.float32)
    field = cv2.resize(blots, (side, side), interpolation=cv2.INTER_CUBIC)
    share = _AREA[0] + (_AREA[1] - _AREA[0]) * random.random() ** 2
    count = max(1, int(share * side * side))
    # The blot is the highest part of a smooth random field, as large as the drawn share.
    where = (field >= np.partition(field.ravel(), -count)[-count]).astype(np.float32)
    whole = view.astype(np.float32)
    kind = random.integers(5)
    if kind == 0:
        wrong = whole + random.uniform(0.3, 1) * (other.astype(np.float32) - whole)
    elif kind == 1:
        wrong = whole + random.choice([-1, 1]) * random.uniform(15, 90)
    elif kind == 2:
        wrong = cv2.blur(whole, (7, 7))
    elif kind == 3:
        wrong = np.roll(whole, random.integers(4, side - 4, 2), (0, 1))
    else:
        wrong = whole[::-1, ::-1]
    share_of = cv2.GaussianBlur(where, (0, 0), random.uniform(0.3, 1.5))[..., None]
    mixed = whole + share_of * (wrong - whole)
    return np.clip(mixed, 0, 255).astype(np.uint8), where


def photographed(views: Tensor, random: Random) -> Tensor:
    """Simulate other light and another camera: tint, contrast, saturation, gamma, blur, noise."""

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        values = random.uniform(low, high, (len(views), channels, 1, 1))
        return torch.from_numpy(values.astype(np.float32))

    grey = views.mean(dim=1, keepdim=True)
    saturation = draw(0.3, 1.5) * (draw(0, 1) > 0.15)
    seen = (grey + saturation * (views - grey)) * draw(0.88, 1.12, 3)
    middle = seen.mean(dim=(1, 2, 3), keepdim=True)
    contrast = torch.exp(draw(math.log(_CONTRAST[0]), math.log(_CONTRAST[1])))
    level = (middle + draw(-0.25, 0.25)).clamp(0.12, 0.88)
    seen = (level + contrast * (seen - middle)).clamp(0, 1) ** draw(0.75, 1.3)
    seen = torch.lerp(seen, _blurred(seen), draw(-0.5, 0.5).clamp(min=0))
    noise = random.standard_normal(seen.shape, dtype=np.float32)
    return seen + draw(0, 0.008) * torch.from_numpy(noise)


def _blurred(views: Tensor) -> Tensor:
    offsets = torch.arange(-3, 4)
    kernel = torch.exp(-0.5 * (offsets / _BLUR_SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = functional.pad(views, (3, 3, 3, 3), mode="replicate")
    along = functional.conv2d(padded, kernel, groups=3)
    return functional.conv2d(along, kernel.transpose(2, 3), groups=3)
