"""Regions of interest: where images are inspected, and where whatever lies there is left alone.

A region is one mask for all images, or a folder with one per image; as mask images (white: inside)
or as polygons in JSON:

    {"size": [640, 480], "polygons": [[[10, 10], [630, 10], [320, 470]], ...]}

with the width and height of the images on which they were drawn and corners (x, y) in pixels; on
images of another size they are stretched with it. Pixels outside are painted in the backbone's mean
colour before the network sees them, so that nothing there, not even close by, changes a score.
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
# OpenCV fills the pixels under the outline too: polygons are drawn finer, then averaged.
_FINER, _FINEST_SIDE = 8, 4096
PER_IMAGE = "one per image"  # how a model file says that each image has a region of its own


@dataclass(frozen=True)
class Rois:
    """Which pixels of an image are inspected, at the network's size.

    Attributes:
        everywhere: (H, W) bool, the part that is the same for all images; `None`: all of it.
        folders: of masks per image, as (folder, whether they mark what is inside).
        size: (H, W).
        reading: how the masks are read.
    """

    everywhere: Roi | None
    folders: tuple[tuple[Path, bool], ...]
    size: tuple[int, int]
    reading: Reading = DEFAULT_READING

    def of(self, path: Path | None) -> Roi:
        """(H, W) bool of one image, with something to inspect.

        Raises:
            UsageError: regions come per image, and this one is no file.
            UnreadableImage: it has no region, or an empty one.
        """
        roi = np.ones(self.size, bool) if self.everywhere is None else self.everywhere
        for folder, inside in self.folders:
            if path is None:
                raise UsageError(f"regions of interest lie in {folder} by name: predict files")
            marked = _read(_file_of(path, folder), self.size, self.reading)
            roi = roi & (marked if inside else ~marked)
        if not roi.any():
            raise UnreadableImage(path or Path("image"), "its region of interest is empty")
        return roi

    def within(self, everywhere: Roi | None) -> Rois:
        """The same, inside of a region for all images."""
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
        roi: marks what is inspected. ignore: marks what is not.

    Raises:
        UsageError: nothing there, not to be read, or nothing left to inspect.
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
            f"nothing is left to inspect by {' and '.join(filter(None, (roi, ignore)))}"
        )
    return Rois(everywhere, tuple(folders), size, reading) if roi or ignore else None


def paint_outside(
    pixels: NDArray[np.uint8], roi: Roi | None, colour: Sequence[float]
) -> NDArray[np.uint8]:
    """(..., H, W, 3) pixels with the backbone's mean colour, in [0, 1], outside of the region."""
    if roi is None:
        return pixels
    paint = np.array([round(255 * channel) for channel in colour], np.uint8)
    return np.where(roi[..., None], pixels, paint)


def _file_of(image: Path, folder: Path) -> Path:
    """Of test/scratch/000.png: FOLDER/test/scratch/000.*, FOLDER/scratch/000.* or FOLDER/000.*."""
    around = image.absolute().parent.parts[1:]
    for inner in (around[-2:], around[-1:], ()):
        for stem in (name_of(image), f"{name_of(image)}_mask"):
            places = (folder.joinpath(*inner, f"{stem}{suffix}") for suffix in _SUFFIXES)
            files = [file for file in places if file.is_file()]
            if len({file.stat().st_ino for file in files}) > 1:  # a disk may know no capitals
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
        raise ValueError("a corner lies far outside of the image")
    return np.asarray(np.round(corners - 0.5), np.int32)  # counted from the first pixel's middle
