"""All metrics of a test set at once, with the protocol they were measured by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from urd.metrics.ranking import (
    Scores,
    auroc_from,
    average_precision_from,
    f1_max_from,
    rank,
)
from urd.metrics.regions import Mask, aupro_200_thresholds, aupro_from, region_weights

METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1-max",
    "aupro": "AUPRO",
    "aupro_per_image": "AUPRO per image (200 thr.)",
}


def evaluate_maps(
    maps: Sequence[Scores],
    scores: Scores,
    defective: Sequence[bool],
    masks: Sequence[Mask] | None,
) -> dict[str, float | None]:
    """Every metric of `METRICS`; `None` where it is undefined (one class absent, no masks).

    Args:
        maps: anomaly maps, (H, W) each.
        scores: one per image.
        defective: the label of each image, from its folder: a defective image stays one also
            where its mask vanished on resizing.
        masks: (H, W) bool, empty for good images.

    Raises:
        ValueError: a score or a map holds NaN or Inf; the message gives the image's index.
    """
    for index, (score, anomaly_map) in enumerate(zip(scores, maps, strict=True)):
        if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
            raise ValueError(f"the anomaly map of image {index} holds NaN or Inf")
    is_defective = np.asarray(defective, bool)
    found = {name: float("nan") for name in METRICS}
    found |= _ranking_metrics("image", scores[~is_defective], scores[is_defective])
    if masks is not None:
        found |= _pixel_metrics(maps, masks)
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def _ranking_metrics(level: str, negatives: Scores, positives: Scores) -> dict[str, float]:
    if not len(negatives) or not len(positives):
        return {}
    ranks = rank(np.sort(negatives), positives)
    return {
        f"{level}_auroc": auroc_from(ranks),
        f"{level}_ap": average_precision_from(ranks),
        f"{level}_f1max": f1_max_from(ranks),
    }


def _pixel_metrics(maps: Sequence[Scores], masks: Sequence[Mask]) -> dict[str, float]:
    pairs = list(zip(maps, masks, strict=True))
    negatives = np.concatenate([m[~mask] for m, mask in pairs])
    negatives.sort()
    positives = np.concatenate([m[mask] for m, mask in pairs])
    if not len(negatives) or not len(positives):
        return {}
    ranks = rank(negatives, positives)
    of_images = np.array([aupro_200_thresholds(m, mask) for m, mask in pairs if mask.any()])
    of_images = of_images[~np.isnan(of_images)]
    return {
        "pixel_auroc": auroc_from(ranks),
        "pixel_ap": average_precision_from(ranks),
        "pixel_f1max": f1_max_from(ranks),
        "aupro": aupro_from(ranks, region_weights(masks)),
        "aupro_per_image": float(of_images.mean()) if len(of_images) else float("nan"),
    }


def describe(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of a table for people: name of the metric, value with four decimals."""
    return [
        (title, "undefined" if result.get(name) is None else f"{result[name]:.4f}")
        for name, title in METRICS.items()
    ]
