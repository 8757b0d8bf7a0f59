"""Test images for the metrics: loaded one at a time, from memory or from files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from urd.errors import UsageError
from urd.metrics.components import Mask, aupro_200_thresholds, component_shares
from urd.metrics.ranking import Floats, Scores

GOOD = "good"
CHUNK_PIXELS = 1 << 24


@dataclass(frozen=True)
class TestImage:
    """A test image for the metrics.

    Attributes:
        name: for messages.
        defect: its type, or `good`. It comes from the folder, not from the mask: an image stays
            defective if its mask vanishes on resizing.
        load: returns the anomaly map (H, W) of any floating type, and the mask (H, W) bool. It is
            called twice, from several threads, so that not all maps must fit into memory.
        score: the image's score; `None`: the maximum of the map.
        roi: returns (H, W) bool, the pixels that count; called with every `load`. `None`: all.
    """

    __test__ = False  # tells pytest that this is not a test class, in spite of its name

    name: str
    defect: str
    load: Callable[[], tuple[Scores, Mask]]
    score: float | None = None
    roi: Callable[[], Mask] | None = None

    @property
    def defective(self) -> bool:
        return self.defect != GOOD


@dataclass(frozen=True)
class Survey:
    """The facts of an image that stay in memory after the first load.

    Attributes:
        score: the score of the image.
        positives: scores of the pixels in its mask, in row order.
        shares: the shares of these pixels; see `component_shares`.
        components: number of components in its mask.
        negative_count: number of pixels outside.
        per_image: its AUPRO by 200 thresholds, NaN without a mask.
    """

    score: float
    positives: Scores
    shares: Floats
    components: int
    negative_count: int
    per_image: float


def survey(image: TestImage, has_masks: bool) -> Survey:
    anomaly_map, mask, outside = load_checked(image)
    score = float(anomaly_map.max()) if image.score is None else image.score
    if not np.isfinite(score):
        raise UsageError(f"the score of {image.name} is NaN or Inf")
    if not has_masks or not mask.any():
        none = np.empty(0)
        negatives = int(np.count_nonzero(outside))
        return Survey(score, none.astype(anomaly_map.dtype), none, 0, negatives, float("nan"))
    shares, components = component_shares(mask)
    positives = anomaly_map[mask]
    per_image = aupro_200_thresholds(anomaly_map, mask, outside)
    return Survey(score, positives, shares, components, int(np.count_nonzero(outside)), per_image)


def load_checked(image: TestImage) -> tuple[Scores, Mask, Mask]:
    """Load the map, and the inspected pixels inside and outside the mask.

    Raises:
        UsageError: map and mask do not fit together, or the map holds NaN or Inf.
    """
    anomaly_map, mask = image.load()
    mask = np.asarray(mask, bool)
    if image.defect == GOOD and mask.any():
        raise UsageError(f"{image.name} is a good image, but its mask is not empty")
    if anomaly_map.ndim != 2 or not anomaly_map.size:
        raise UsageError(f"the map of {image.name} has the shape {anomaly_map.shape}, not (H, W)")
    if anomaly_map.shape != mask.shape:
        if mask.ndim != 2:
            raise UsageError(f"the mask of {image.name} has the shape {mask.shape}, not (H, W)")
        (height, width), (mask_height, mask_width) = anomaly_map.shape, mask.shape
        raise UsageError(
            f"the map of {image.name} is {width}x{height} (width x height), "
            f"its mask {mask_width}x{mask_height}"
        )
    # NaN or Inf in the map makes its sum NaN or Inf, and the sum is much faster than a test of each
    # value. A float32 sum may overflow for good values, so the slow test decides.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(anomaly_map.sum())
    if suspicious and not np.isfinite(anomaly_map).all():
        raise UsageError(f"the map of {image.name} holds NaN or Inf")
    if image.roi is None:
        return anomaly_map, mask, ~mask
    roi = image.roi()
    return anomaly_map, mask & roi, ~mask & roi


def negative_chunks(
    images: Sequence[TestImage], surveys: Sequence[Survey]
) -> Iterator[Callable[[], Scores]]:
    """Functions that each load the negative pixels of a few images, up to `CHUNK_PIXELS`."""

    def loader(chunk: list[TestImage]) -> Callable[[], Scores]:
        def load() -> Scores:
            loaded = [load_checked(image) for image in chunk]
            return np.concatenate([m[outside] for m, _, outside in loaded])

        return load

    chunk: list[TestImage] = []
    pixels = 0
    for image, survey in zip(images, surveys, strict=True):
        if chunk and pixels + survey.negative_count > CHUNK_PIXELS:
            yield loader(chunk)
            chunk, pixels = [], 0
        chunk.append(image)
        pixels += survey.negative_count
    if chunk:
        yield loader(chunk)
