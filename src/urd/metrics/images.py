"""Test images as the metrics read them: one at a time, from memory or from files."""

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
    """A test image as the metrics see it.

    Attributes:
        name: for messages.
        defect: its type, or `good`, from the folder and not from the mask: a defective image stays
            one also where its mask vanished on resizing.
        load: the anomaly map (H, W), of any floating type, and the mask (H, W) bool. Called twice,
            from several threads; maps need not fit into memory together.
        score: the image's score; `None`: the maximum of the map.
        roi: gives (H, W) bool, the pixels that count, good or not; called wherever `load` is.
            `None`: all count.
    """

    __test__ = False  # no test class, though pytest would think so from its name

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
    """What a first look at an image leaves behind.

    Attributes:
        score: of the image.
        positives: scores of the pixels in its mask, in row order.
        shares: of these pixels in their components; see `component_shares`.
        components: how many there are.
        negative_count: how many pixels are outside.
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
    """The map, and the inspected pixels inside and outside of the mask."""
    anomaly_map, mask = image.load()
    mask = np.asarray(mask, bool)
    if image.defect == GOOD and mask.any():
        raise UsageError(f"{image.name} is a good image, but its mask marks something")
    if anomaly_map.ndim != 2 or not anomaly_map.size:
        raise UsageError(f"the map of {image.name} has the shape {anomaly_map.shape}, not (H, W)")
    if anomaly_map.shape != mask.shape:
        (height, width), (mask_height, mask_width) = anomaly_map.shape, mask.shape
        raise UsageError(
            f"the map of {image.name} is {width}x{height}, its mask {mask_width}x{mask_height}"
        )
    # The sum is finite where every value is, and much faster than a look at each; a float32
    # sum may overflow, so a second look decides.
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
    """Calls that load the negative pixels of some images each, up to `CHUNK_PIXELS` of them."""

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
