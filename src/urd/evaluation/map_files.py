"""Anomaly maps from any method as files (TIFF, NPY, PNG), with their masks."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from urd.data import DEFAULT_READING, GOOD, Reading, name_below, pair, read_masks, search
from urd.data.image_files import limited
from urd.data.whole_files import refuse_partial
from urd.errors import UrdError, UsageError, first_line, some
from urd.inspection.prediction import Prediction
from urd.metrics import TestImage
from urd.system.files import refuse_special, write_atomically
from urd.system.progress import note

MAP_SUFFIXES = (".tiff", ".tif", ".npy", ".png")
_GOOD_FOLDERS = (GOOD, "ok", "Normal")  # names in MVTec's data sets, BTAD and VisA


@dataclass(frozen=True)
class MapFile:
    """A map, its type of defect (the name of its folder), and the masks of its image.

    `name` is that of the image below the folder of maps, such as `dent/000`.
    """

    path: Path
    name: str
    defect: str
    masks: tuple[Path, ...]


def write_map(path: Path, prediction: Prediction) -> None:
    """Write a float32 TIFF of the size of the image, as MVTec's evaluation reads it."""
    _, encoded = cv2.imencode(".tiff", prediction.map_at(prediction.size))
    write_atomically(path, lambda new: new.write_bytes(encoded.tobytes()), one_of_many=True)


def read_map(path: Path, reading: Reading = DEFAULT_READING) -> np.ndarray:
    """(H, W) scores: float32 if it holds every value of the file's type, else float64.

    Raises:
        UrdError: the file is not a readable map; a colour picture is not a map.
    """
    refuse_special(path)
    try:
        read = _read_npy if path.suffix.lower() == ".npy" else _read_image
        array = read(path, reading)
    except Exception as error:  # damaged files raise many types of errors in both libraries
        raise UrdError(f"{path}: cannot be read as an anomaly map ({first_line(error)})") from error
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        raise UrdError(
            f"{path}: an anomaly map must have one number per pixel, (H, W); this file has "
            f"{array.dtype} of shape {array.shape}"
        )
    small = np.can_cast(array.dtype, np.float32)
    return array.astype(np.float32 if small else np.float64, copy=False)


def find_maps(maps: Path, masks: Path, reading: Reading = DEFAULT_READING) -> list[MapFile]:
    """Pair maps with masks in MVTec's layout.

    Maps are `<type>/<name>.tiff` below `maps` or `maps/test`. Masks are below `masks` or
    `masks/ground_truth`; `urd.data.pair` pairs them. Maps in `good` need no mask. If maps are
    directly in `maps`, each needs a mask directly in `masks`, which is black for a good image.

    Raises:
        UsageError: no maps, two maps of one image, a map without mask or a mask without map.
    """
    for folder, what in ((maps, "maps"), (masks, "masks")):
        if not folder.is_dir():
            raise UsageError(f"there is no folder of {what} at {folder}")
    maps = maps / "test" if (maps / "test").is_dir() else maps
    masks = masks / "ground_truth" if (masks / "ground_truth").is_dir() else masks
    found = search(maps, wanted=_is_map)
    paths = found.images
    if not paths:
        raise UsageError(
            f"no maps in {maps}: name them <type>/<name>.tiff (or {', '.join(MAP_SUFFIXES[1:])}), "
            "with the type good for good images"
        )
    for line in found.passed_over():
        note(line)
    _refuse_doubles(paths, maps)
    typed = [path for path in paths if path.parent != maps]
    if typed and len(typed) < len(paths):
        note(f"skipped {len(paths) - len(typed)} files in {maps} that are not in a folder of maps")
    paths = typed or paths
    pairs = pair(paths, maps, search(masks).images, masks)
    if pairs.disputed:
        raise UsageError(f"each mask must belong to one map only: {some(pairs.disputed)}")
    files = []
    for path in paths:
        of_image = pairs.masks.get(path, ())
        defect = _type_of(path, maps) if typed else _type_by_mask(path, masks, of_image, reading)
        if defect != GOOD and not of_image:
            raise UsageError(
                f"there is no mask for {path} in {masks}; a folder of good images must be called "
                f"{', '.join(_GOOD_FOLDERS[:-1])} or {_GOOD_FOLDERS[-1]}{_swapped(paths)}"
            )
        files.append(MapFile(path, name_below(path, maps), defect, of_image))
    if pairs.orphans:
        left = pairs.orphans
        raise UsageError(
            f"there is no map in {maps} for {len(left)} of the masks, first {left[0]}; maps are "
            f"files that end in {', '.join(MAP_SUFFIXES)}"
        )
    return files


def as_test_images(
    files: Sequence[MapFile],
    *,
    resize: bool,
    reading: Reading = DEFAULT_READING,
    scores: Sequence[float] | None = None,
) -> list[TestImage]:
    """The input of the metrics; with `resize`, maps get the size of their masks.

    Args:
        scores: of the images; `None`: the maximum of each map.

    Raises:
        UsageError: the masks differ in size, so the size for maps of good images is not known.
    """
    size = _common_size(files, reading) if resize else None
    return [
        TestImage(str(file.path), file.defect, _loader(file, size, reading), score)
        for file, score in zip(files, scores or itertools.repeat(None, len(files)), strict=True)
    ]


def _loader(
    file: MapFile, size: tuple[int, int] | None, reading: Reading
) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """`size`: (height, width) for maps of good images; `None`: no map is resized."""

    def load() -> tuple[np.ndarray, np.ndarray]:
        anomaly_map = read_map(file.path, reading)
        mask: np.ndarray = np.zeros(size or anomaly_map.shape, bool)
        if file.masks:
            mask = read_masks(file.masks, reading)
        if anomaly_map.shape == mask.shape:
            return anomaly_map, mask
        height, width = mask.shape
        if size is None:
            raise UsageError(
                f"{file.path} is {anomaly_map.shape[1]}x{anomaly_map.shape[0]}, its mask "
                f"{width}x{height}; write maps in the size of the masks, or pass --resize"
            )
        return cv2.resize(anomaly_map, (width, height), interpolation=cv2.INTER_LINEAR), mask

    return load


def _common_size(files: Sequence[MapFile], reading: Reading) -> tuple[int, int]:
    sizes = set()
    for file in files:
        if file.masks:
            height, width = read_masks(file.masks, reading).shape
            sizes.add((height, width))
    if not sizes:
        raise UsageError("--resize: there are no masks that give a size for the maps")
    if len(sizes) > 1 and not all(file.masks for file in files):
        raise UsageError(
            "--resize: the masks differ in size, so the size for maps of good images is not known; "
            "write the maps in the size of their images"
        )
    return sizes.pop()


def _swapped(maps: Sequence[Path]) -> str:
    """A hint if the files of the maps are called as masks are."""
    are_masks = all(path.stem.endswith("_mask") for path in maps)
    return ". These maps are called like masks: are the two folders swapped?" if are_masks else ""


def _type_of(path: Path, maps: Path) -> str:
    folder = path.relative_to(maps).parts[0]
    return GOOD if folder in _GOOD_FOLDERS else folder


def _type_by_mask(path: Path, masks: Path, of_image: tuple[Path, ...], reading: Reading) -> str:
    if not of_image:
        raise UsageError(f"there is no mask for {path} in {masks}: good images need a black mask")
    return "defective" if read_masks(of_image, reading).any() else GOOD


def _refuse_doubles(paths: Sequence[Path], maps: Path) -> None:
    found: dict[str, Path] = {}
    for path in paths:
        if (other := found.setdefault(name_below(path, maps), path)) != path:
            raise UsageError(f"two maps of one image: {other} and {path}")


def _is_map(path: Path) -> bool:
    return path.suffix.lower() in MAP_SUFFIXES


def _read_npy(path: Path, reading: Reading) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("not an array")
    _refuse_huge(array.size, reading)
    return np.array(array)


def _read_image(path: Path, reading: Reading) -> np.ndarray:
    data = path.read_bytes()
    try:
        with limited(reading), Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as image:
            _refuse_huge(image.width * image.height, reading)
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError("it has several pages")
            refuse_partial(image, data)
    except Image.DecompressionBombError:
        _refuse_huge(reading.max_pixels + 1, reading)
    except UnidentifiedImageError:  # Pillow cannot read float64 TIFF; OpenCV can
        if cv2.imcount(str(path)) > 1:
            raise ValueError("it has several pages") from None
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ValueError("not a complete PNG or TIFF")
    return array


def _refuse_huge(pixels: int, reading: Reading) -> None:
    if pixels > reading.max_pixels:
        raise ValueError(
            f"over {reading.max_megapixels} megapixels; allow more with --max-megapixels"
        )
