"""Decode all images of a set once, at the network's size, and keep them in memory as uint8."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from urd.data.decoding import read_rgb
from urd.data.image_files import DEFAULT_READING, Reading
from urd.data.picture import UnreadableImage
from urd.errors import UsageError
from urd.system.progress import track
from urd.system.threads import workers

Size = tuple[int, int]


class Decoded(NamedTuple):
    """Many images at one size.

    Attributes:
        images: the readable images, (N, H, W, 3) uint8.
        kept: their indices in the list of paths.
        unreadable: the errors of the others.
        sizes: (height, width) of each readable image before it was resized.
    """

    images: np.ndarray
    kept: list[int]
    unreadable: list[UnreadableImage]
    sizes: list[Size]


def resize_rgb(image: Image.Image, size: Size) -> np.ndarray:
    """Resize to (H, W, 3) uint8: bilinear with antialiasing; the aspect ratio may change.

    Each row first, then each column: Pillow rounds after each axis, and its own order differs by
    version.
    """
    rows = image.resize((size[1], image.height), Image.Resampling.BILINEAR)
    return np.asarray(rows.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def resize_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """Resize to (H, W) bool: bilinear with antialiasing, then a threshold of one half."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    resized = grey.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized) >= 127.5


def decode_all(
    paths: Sequence[Path],
    size: Size,
    reading: Reading = DEFAULT_READING,
    *,
    label: str = "Reading",
) -> Decoded:
    """Decode and resize many images in threads."""

    def decode(path: Path) -> tuple[np.ndarray, Size] | UnreadableImage:
        try:
            image = read_rgb(path, reading=reading)
            return resize_rgb(image, size), (image.height, image.width)
        except UnreadableImage as error:
            return error

    with workers(min(8, os.cpu_count() or 1)) as pool:
        results = list(track(pool.map(decode, paths), label, len(paths)))
    unreadable = [result for result in results if isinstance(result, UnreadableImage)]
    readable = {i: r for i, r in enumerate(results) if not isinstance(r, UnreadableImage)}
    images = [image for image, _ in readable.values()]
    stacked = np.stack(images) if images else np.empty((0, *size, 3), np.uint8)
    return Decoded(stacked, list(readable), unreadable, [size for _, size in readable.values()])


def decode_or_refuse(
    paths: Sequence[Path], size: Size, reading: Reading, *, at_least: int, what: str, label: str
) -> Decoded:
    """As `decode_all`, but refuse a set with fewer than `at_least` readable images.

    Raises:
        UsageError: there are too few; the message names the first unreadable image and why.
    """
    decoded = decode_all(paths, size, reading, label=label)
    _, kept, unreadable, _ = decoded
    if len(kept) < at_least:
        first = f"; {unreadable[0]}" if unreadable else ""
        raise UsageError(
            f"{what}: {len(kept)} readable of {len(paths)} images, {at_least} needed{first}"
        )
    return decoded
