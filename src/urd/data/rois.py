"""Regions of interest: which part of an image is inspected.

A region is one mask for all images, or a folder with one mask per image. A mask is an image (white:
inside), or polygons in JSON:

    {"size": [640, 480], "polygons": [[[10, 10], [630, 10], [320, 470]], ...]}

`size` is width and height of the images on which the polygons were drawn; corners are (x, y) in
pixels. For images of another size the polygons are stretched. Pixels outside get the backbone's
mean colour before the network sees them, so that nothing outside, not even nearby, changes a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from urd.data.decoding import read_mask
from urd.data.finding import name_of
from urd.data.image_files import DEFAULT_READING, IMAGE_SUFFIXES, Reading
from urd.data.picture import UnreadableImage
from urd.data.store import resize_mask
from urd.errors import UsageError, first_line
from urd.system.documents import MIB, read_json
from urd.system.files import refuse_special

Roi = NDArray[np.bool_]
_SUFFIXES = [case for s in (*IMAGE_SUFFIXES, ".json") for case in (s, s.upper())]
_MOST_BYTES = MIB
_MOST_POLYGONS, _MOST_CORNERS = 1000, 10_000  # drawing more may take minutes
# OpenCV also fills the pixels under the outline. So polygons are drawn larger and then averaged.
_FINER, _FINEST_SIDE = 8, 4096
PER_IMAGE = "one per image"  # the text in a model file if each image has its own region


@dataclass(frozen=True)
class Rois:
    """Which pixels of an image are inspected, at the network's size.

    Attributes:
        everywhere: (H, W) bool, the region for all images; `None`: no limit.
        folders: folders of masks per image, as (folder, whether the masks mark the inside).
        size: (H, W).
        reading: settings for reading the masks.
    """

    everywhere: Roi | None
    folders: tuple[tuple[Path, bool], ...]
    size: tuple[int, int]
    reading: Reading = DEFAULT_READING

    def of(self, path: Path | None) -> Roi:
        """The region of one image, (H, W) bool, not empty.

        Raises:
            UsageError: there is one region per image, and this image is not a file.
            UnreadableImage: the image has no region, or an empty one.
        """
        roi = np.ones(self.size, bool) if self.everywhere is None else self.everywhere
        for folder, inside in self.folders:
            if path is None:
                raise UsageError(
                    f"regions of interest in {folder} are found by file name; pass image files"
                )
            marked = _read(_file_of(path, folder), self.size, self.reading)
            roi = roi & (marked if inside else ~marked)
        if not roi.any():
            raise UnreadableImage(path or Path("image"), "its region of interest is empty")
        return roi

    def within(self, everywhere: Roi | None) -> Rois:
        """These regions, cut to a region for all images."""
        if everywhere is None:
            return self
        both = everywhere if self.everywhere is None else everywhere & self.everywhere
        return replace(self, everywhere=both)


def read_rois(
    roi: str,
    ignore: str,
    size: tuple[int, int],
    reading: Reading = DEFAULT_READING,
) -> Rois | None:
    """Regions at the network's `size` (H, W) from two files or folders; `None` if both are empty.

    Args:
        roi: marks what is inspected.
        ignore: marks what is not.

    Raises:
        UsageError: a file is missing or unreadable, or nothing is left to inspect.
    """
    everywhere: Roi | None = None
    folders = []
    for name, inside in ((roi, True), (ignore, False)):
        if not name:
            continue
        path = Path(name)
        refuse_special(path)
        if path.is_dir():
            folders.append((path, inside))
        elif path.is_file():
            try:
                marked = _read(path, size, reading)
            except UnreadableImage as error:
                raise UsageError(str(error)) from error
            part = marked if inside else ~marked
            everywhere = part if everywhere is None else everywhere & part
        else:
            raise UsageError(f"no region of interest at {path}; give a mask, JSON or a folder")
    if everywhere is not None and not everywhere.any():
        raise UsageError(
            f"nothing is left to inspect with {' and '.join(filter(None, (roi, ignore)))}"
        )
    return Rois(everywhere, tuple(folders), size, reading) if roi or ignore else None


def paint_outside(
    pixels: NDArray[np.uint8], roi: Roi | None, colour: Sequence[float]
) -> NDArray[np.uint8]:
    """Paint (..., H, W, 3) pixels outside the region in `colour`, RGB in [0, 1]."""
    if roi is None:
        return pixels
    paint = np.array([round(255 * channel) for channel in colour], np.uint8)
    return np.where(roi[..., None], pixels, paint)


def _file_of(image: Path, folder: Path) -> Path:
    """The mask of an image in a folder, by its name.

    For test/scratch/000.png: FOLDER/test/scratch/000.*, FOLDER/scratch/000.* or FOLDER/000.*.
    """
    around = image.absolute().parent.parts[1:]
    for inner in (around[-2:], around[-1:], ()):
        for stem in (name_of(image), f"{name_of(image)}_mask"):
            places = (folder.joinpath(*inner, f"{stem}{suffix}") for suffix in _SUFFIXES)
            files = [file for file in places if file.is_file()]
            if len({file.stat().st_ino for file in files}) > 1:  # .png and .PNG may be one file
                raise UnreadableImage(image, f"two regions of interest: {files[0]} and {files[1]}")
            if files:
                return files[0]
    raise UnreadableImage(image, f"no region of interest of that name in {folder}")


def _read(path: Path, size: tuple[int, int], reading: Reading) -> Roi:
    if path.suffix.lower() != ".json":
        return resize_mask(read_mask(path, reading), size)
    try:
        content = read_json(path, _MOST_BYTES)
        width, height = (float(side) for side in content["size"])
        polygons = [np.array(polygon, np.float64) for polygon in content["polygons"]]
        if not (width > 0 and height > 0) or not polygons:
            raise ValueError("a positive size and at least one polygon are needed")
        if len(polygons) > _MOST_POLYGONS or sum(map(len, polygons)) > _MOST_CORNERS:
            raise ValueError(f"over {_MOST_POLYGONS} polygons or {_MOST_CORNERS} corners")
        if any(p.ndim != 2 or p.shape[1] != 2 or len(p) < 3 for p in polygons):
            raise ValueError("a polygon is a list of three or more [x, y]")
        finer = max(1, min(_FINER, _FINEST_SIDE // max(size)))
        scale = np.array((finer * size[1] / width, finer * size[0] / height))
        corners = [_whole(polygon * scale) for polygon in polygons]
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise UnreadableImage(
            path, f'not {{"size": [w, h], "polygons": [[[x, y], ...], ...]}} ({first_line(error)})'
        ) from error
    drawn = np.zeros((finer * size[0], finer * size[1]), np.uint8)
    for polygon in corners:
        cv2.fillPoly(drawn, [polygon], 255)
    return cv2.resize(drawn, (size[1], size[0]), interpolation=cv2.INTER_AREA) >= 128


def _whole(corners: NDArray[np.float64]) -> NDArray[np.int32]:
    if not np.isfinite(corners).all() or np.abs(corners).max() > 2**20:
        raise ValueError("a corner is far outside the image")
    return np.asarray(np.round(corners - 0.5), np.int32)  # OpenCV counts from pixel centres
