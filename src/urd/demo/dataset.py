"""Writes the rendered products as data sets in MVTec layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from urd.demo import denim, flange_nut
from urd.demo.surface import Map
from urd.system.files import write_atomically
from urd.system.progress import track
from urd.system.seeding import derived_seed

SIZE = 256
_VISIBLE = 0.03  # a pixel is in the mask if the defect changes it by more than this share of white
Render = Callable[[np.random.Generator, str | None], tuple[Map, Map]]

PRODUCTS: dict[str, tuple[Render, tuple[str, ...]]] = {
    "flange_nut": (flange_nut.render, flange_nut.KINDS),
    "denim": (denim.render, denim.KINDS),
}


def render_dataset(
    root: Path, product: str, *, train: int, test_good: int, per_defect: int, seed: int
) -> Path:
    """Render a product to `root/product` and return that folder."""
    folder = root / product
    kinds = PRODUCTS[product][1]
    jobs: list[tuple[str, str | None, int]] = [("train", None, i) for i in range(train)]
    jobs += [("test", None, i) for i in range(test_good)]
    jobs += [("test", kind, i) for kind in kinds for i in range(per_defect)]
    for split, kind, index in track(jobs, f"Rendering {product}", len(jobs)):
        image, mask = render_sample(product, kind, split, index, seed)
        of_kind = kind or "good"
        _save(image, folder / split / of_kind / f"{index:03}.png")
        if kind is not None:
            _save(mask, folder / "ground_truth" / kind / f"{index:03}_mask.png")
    return folder


def render_sample(
    product: str, kind: str | None, split: str, index: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """One picture, (256, 256, 3) uint8, and the exact mask of its defect, (256, 256) uint8.

    The same picture is also rendered without the defect. The mask has the pixels near the defect
    that it changes visibly, before camera noise.
    """
    render = PRODUCTS[product][0]
    source = derived_seed(seed, "demo", product, split, kind or "good", index)
    picture, stencil = render(np.random.default_rng(source), kind)
    camera = np.random.default_rng(derived_seed(source, "camera"))
    image = _photograph(_halve(picture), camera)
    if kind is None:
        return image, np.zeros((SIZE, SIZE), np.uint8)
    clean, _ = render(np.random.default_rng(source), None)
    return image, _mask(_halve(picture), _halve(clean), _halve(stencil))


def _mask(picture: Map, clean: Map, stencil: Map) -> np.ndarray:
    changed = np.abs(picture - clean).max(axis=2) > _VISIBLE
    near = cv2.dilate((stencil > 0.05).astype(np.uint8), np.ones((5, 5), np.uint8))
    mask = (changed & (near > 0)).astype(np.uint8) * 255
    return cv2.morphologyEx(
        mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    )


def _photograph(picture: Map, rng: np.random.Generator) -> np.ndarray:
    """Lens softness, sensor noise and gamma."""
    soft = cv2.GaussianBlur(picture, (0, 0), 0.5)
    noisy = np.clip(soft, 0, 1) + 0.006 * rng.standard_normal(soft.shape)
    return (np.clip(noisy, 0, 1) ** (1 / 1.6) * 255).round().astype(np.uint8)


def _halve(image: Map) -> Map:
    return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _save(image: np.ndarray, path: Path) -> None:
    picture = Image.fromarray(image)
    write_atomically(path, lambda new: picture.save(new, "PNG"), one_of_many=True)
