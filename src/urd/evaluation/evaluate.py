"""Evaluate a labelled test set: metrics, curves, and the judgement of each image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from urd.config import FitConfig
from urd.data import DEFAULT_READING, DataSet, Reading, Sample, read_masks, resize_mask
from urd.errors import UrdError, UsageError
from urd.evaluation.maps_on_disk import MapsOnDisk, maps_on_disk
from urd.evaluation.records import Evaluation, JudgedImage
from urd.evaluation.tally import Tally
from urd.inspection.prediction import Failure, Prediction
from urd.metrics import PIXEL_PROTOCOL, TestImage, measure
from urd.system.files import printable


def evaluate_predictions(
    data_set: DataSet,
    judged: Iterable[Prediction | Failure],
    config: FitConfig,
    *,
    in_rois: bool,
    resamples: int,
    reading: Reading = DEFAULT_READING,
) -> Evaluation:
    """Compare judgements with labels. `judged` has the order of `data_set.test`.

    Args:
        in_rois: only pixels inside the region of interest of their image count.
        reading: how masks are read.

    The metrics leave out images that cannot be judged; `n_not_judged` counts them. Maps wait on the
    disk, so memory use grows only with the number of defective pixels.

    Raises:
        UsageError: a mask and its image differ in size.
        UrdError: no test image can be judged, or the disk is full.
    """
    with maps_on_disk() as maps:
        found = kept_on_disk(data_set, judged, config.image_size, maps, reading)
        if not found.test:
            first = found.failures[0]
            raise UrdError(f"no test image can be judged; {first.path}: {first.reason}")
        measured = measure(found.test, has_masks=data_set.has_masks, resamples=resamples)
    metrics = {
        **measured.figures,
        **Tally.of(found.images).metrics(),
        "protocol": _protocol(config, data_set.has_masks, in_rois),
        "variant": config.variant,
        "backbone": config.tag,
        "seed": config.seed,
    }
    curves = {name: (x.tolist(), y.tolist()) for name, (x, y) in measured.curves().items()}
    return Evaluation(metrics, found.images, curves, found.failures)


@dataclass(frozen=True)
class OnDisk:
    """A judged test set. `test` has the images that were judged, with their maps on the disk."""

    images: list[JudgedImage]
    failures: list[Failure]
    test: list[TestImage]


def kept_on_disk(
    data_set: DataSet,
    judged: Iterable[Prediction | Failure],
    size: tuple[int, int],
    maps: MapsOnDisk,
    reading: Reading,
) -> OnDisk:
    """Keep the judgements of `data_set.test`, which come in its order.

    Args:
        size: (height, width) of the maps.
    """
    found = OnDisk([], [], [])
    for sample, result in zip(data_set.test, judged, strict=True):
        path = printable(sample.path.absolute())
        if isinstance(result, Failure):
            found.failures.append(result)
            judgement = JudgedImage(path, sample.defect, None, result.verdict, result.reason)
        else:
            mask = mask_of(sample, result.size, size, reading)
            found.test.append(_kept(sample, result, mask, maps))
            place = _on_defect(result, mask)
            judgement = JudgedImage(
                path, sample.defect, result.score, result.verdict, on_defect=place
            )
        found.images.append(judgement)
    return found


def _on_defect(result: Prediction, mask: np.ndarray) -> bool | None:
    """Whether a found defect touches the mask (h, w); `None` if there is nothing to compare."""
    if not result.defects or not mask.any():
        return None
    scale = np.array(mask.shape[::-1]) / result.size[::-1]
    outlines = [np.round(np.array(d.contour) * scale - 0.5) for d in result.defects]
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(drawn, [outline.astype(np.int32) for outline in outlines], 1)  # and its border
    return bool((drawn > 0)[mask].any())


def _kept(sample: Sample, result: Prediction, mask: np.ndarray, maps: MapsOnDisk) -> TestImage:
    """The test image, with its map on the disk, and its mask too if the mask marks something."""
    shape = mask.shape
    load_map = maps.keep(result.anomaly_map)
    load_mask = maps.keep(mask) if mask.any() else lambda: np.zeros(shape, bool)
    return TestImage(
        str(sample.path),
        sample.defect,
        lambda: (load_map(), load_mask()),
        result.score,
        None if result.roi is None else maps.keep(result.roi),
    )


def refuse_unusable(data_set: DataSet) -> None:
    """Raise `UsageError` if the labels of a test set are incomplete, before an image is scored."""
    if not data_set.test:
        raise UsageError(
            f"no labelled test images in {data_set.root}: put them in test/good and test/<defect>"
        )
    if data_set.missing_masks:
        raise UsageError(
            f"{len(data_set.missing_masks)} defective images have no mask in ground_truth, first: "
            f"{data_set.missing_masks[0]}"
        )
    if data_set.orphan_masks:
        raise UsageError(
            f"{len(data_set.orphan_masks)} masks belong to no test image, first: "
            f"{data_set.orphan_masks[0]}"
        )


def mask_of(
    sample: Sample,
    image_size: tuple[int, int],
    size: tuple[int, int],
    reading: Reading = DEFAULT_READING,
) -> np.ndarray:
    """The mask of the sample at the network's `size`: resized bilinearly, threshold 0.5."""
    if not sample.masks:
        return np.zeros(size, bool)
    mask = read_masks(sample.masks, reading)
    if mask.shape != image_size:
        raise UsageError(
            f"mask {sample.masks[0]} is {mask.shape[1]}x{mask.shape[0]}, its image "
            f"{sample.path.name} is {image_size[1]}x{image_size[0]}"
        )
    return resize_mask(mask, size)


def _protocol(config: FitConfig, has_masks: bool, in_rois: bool) -> str:
    height, width = config.image_size
    pixel = (
        f"masks resized bilinearly, threshold 0.5; {PIXEL_PROTOCOL}"
        if has_masks
        else "no masks, image metrics only"
    )
    where = ", pixels in the region of interest only" if in_rois else ""
    training = f"iteration {config.iterations} (last)" if config.trains else "no training"
    protocol = f"{height}x{width} px{where}, {training}, labels from folders, {pixel}"
    return f"{protocol}; F1-max uses the labels to choose its threshold"
