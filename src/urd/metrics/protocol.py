"""All metrics of a test set at once, in bounded memory, with the protocol they were measured by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from urd.metrics.bootstrap import (
    Curves,
    aupro_of,
    image_curves,
    interval,
    pixel_curves,
    ranking_of,
    resample,
)
from urd.metrics.images import GOOD, Survey, TestImage, negative_chunks, survey
from urd.metrics.ranking import (
    Floats,
    Ranks,
    Scores,
    auroc_from,
    average_precision_from,
    f1_max_from,
    map_in_threads,
    rank,
    rank_arrays,
)
from urd.metrics.regions import FPR_LIMIT, Mask, aupro_from

METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1-max",
    "aupro": "AUPRO",
    "aupro_0.05": "AUPRO, FPR to 0.05",
    "aupro_0.01": "AUPRO, FPR to 0.01",
    "aupro_per_image": "AUPRO per image (200 thr.)",
}
AUPRO_LIMITS = {"aupro": FPR_LIMIT, "aupro_0.05": 0.05, "aupro_0.01": 0.01}
PIXEL_PROTOCOL = (
    f"pixel metrics over the whole set; AUPRO exact, 8-connected regions, FPR to {FPR_LIMIT}"
)


def evaluate(
    images: Sequence[TestImage], *, has_masks: bool = True, resamples: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Every metric of `METRICS`; `None` where it is undefined (one class absent, no masks).

    Beside them `n_good`, `n_defective`, `n_vanished_masks`, per type of defect
    `image_auroc:TYPE` and `aupro:TYPE`, and with `resamples` the limits of 95 % bootstrap
    intervals over images, `NAME_low` and `NAME_high`; none where a class has a single image.

    The memory needed grows with the defective pixels (about 130 bytes each), not with the maps;
    intervals take up to 50 kB per image.

    Args:
        has_masks: false: image metrics only.
        seed: of the resamples.

    Raises:
        UsageError: a map that holds NaN or Inf, is not of its mask's size, or is no (H, W) array.
    """
    surveys = list(map_in_threads(lambda image: survey(image, has_masks), images))
    defective = np.array([image.defective for image in images], bool)
    scores = np.array([survey.score for survey in surveys])
    found: dict[str, Any] = dict.fromkeys(METRICS)
    image_ranks = rank_arrays(scores[~defective], scores[defective])
    _put(found, _ranking_metrics("image", image_ranks))
    positives = np.concatenate([s.positives for s in surveys]) if surveys else np.empty(0)
    ranks = None
    if has_masks and len(positives):
        ranks = rank(positives, negative_chunks(images, surveys))
        _put(found, _pixel_metrics(ranks, surveys))
    _put(found, _of_defects(images, surveys, scores, ranks))
    found["n_good"] = int((~defective).sum())
    found["n_defective"] = int(defective.sum())
    if has_masks:
        found["n_vanished_masks"] = sum(
            image.defective and survey.regions == 0
            for image, survey in zip(images, surveys, strict=True)
        )
    if resamples and _enough(defective):
        generator = np.random.default_rng(seed)
        weights = resample(defective, resamples, generator)
        _put_intervals(found, "image", image_curves(scores, defective), weights)
        if ranks is not None and not ranks.undefined:
            _put_intervals(found, "pixel", pixel_curves(images, surveys, positives), weights)
            of_images = np.array([survey.per_image for survey in surveys])
            known = ~np.isnan(of_images)
            drawn = weights[:, known].sum(axis=1)
            means = weights[:, known] @ of_images[known] / np.where(drawn > 0, drawn, np.nan)
            _put_interval(found, "aupro_per_image", means)
    return found


def evaluate_maps(
    maps: Sequence[Scores],
    scores: Scores,
    defects: Sequence[str],
    masks: Sequence[Mask] | None,
    *,
    names: Sequence[str] | None = None,
    inspected: Sequence[Mask | None] | None = None,
    resamples: int = 0,
) -> dict[str, Any]:
    """`evaluate` of maps that are in memory.

    Args:
        maps: anomaly maps, (H, W) each.
        scores: one per image.
        defects: `good` or the type of each image.
        masks: (H, W) bool, empty for good images; `None`: image metrics only.
        names: for messages; by default `image 0`, `image 1`, ...
        inspected: per image the pixels that count; `None`: all.
    """
    inspected = inspected or [None] * len(maps)
    names = names or [f"image {index}" for index in range(len(maps))]

    def loader(index: int) -> Callable[[], tuple[Scores, Mask]]:
        if masks is None:
            return lambda: (maps[index], np.zeros(maps[index].shape, bool))
        return lambda: (maps[index], masks[index])

    images = [
        TestImage(name, defect, loader(index), float(score), region)
        for index, (name, defect, score, region) in enumerate(
            zip(names, defects, scores, inspected, strict=True)
        )
    ]
    return evaluate(images, has_masks=masks is not None, resamples=resamples)


def describe(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of a table for people: name of the metric, value, interval; four decimals."""
    return [(title, *_cells(result, name)) for name, title in METRICS.items()]


def _cells(result: dict[str, Any], name: str) -> tuple[str, str]:
    if result.get(name) is None:
        return "undefined", ""
    low, high = result.get(f"{name}_low"), result.get(f"{name}_high")
    return f"{result[name]:.4f}", "" if low is None else f"{low:.4f} to {high:.4f}"


def _ranking_metrics(level: str, ranks: Ranks) -> dict[str, float]:
    if ranks.undefined:
        return {}
    return {
        f"{level}_auroc": auroc_from(ranks),
        f"{level}_ap": average_precision_from(ranks),
        f"{level}_f1max": f1_max_from(ranks),
    }


def _pixel_metrics(ranks: Ranks, surveys: Sequence[Survey]) -> dict[str, float]:
    shares = np.concatenate([survey.shares for survey in surveys])
    regions = sum(survey.regions for survey in surveys)
    of_images = np.array([survey.per_image for survey in surveys])
    of_images = of_images[~np.isnan(of_images)]
    return {
        **_ranking_metrics("pixel", ranks),
        **{name: aupro_from(ranks, shares, regions, limit) for name, limit in AUPRO_LIMITS.items()},
        "aupro_per_image": float(of_images.mean()) if len(of_images) else float("nan"),
    }


def _of_defects(
    images: Sequence[TestImage],
    surveys: Sequence[Survey],
    scores: Scores,
    ranks: Ranks | None,
) -> dict[str, float]:
    """Per type: its images against all good ones, its regions against all pixels outside any."""
    found = {}
    good = np.array([not image.defective for image in images], bool)
    for defect in sorted({image.defect for image in images} - {GOOD}):
        of_type = np.array([image.defect == defect for image in images])
        found[f"image_auroc:{defect}"] = auroc_from(rank_arrays(scores[good], scores[of_type]))
        if ranks is not None:
            shares = [s.shares * inside for s, inside in zip(surveys, of_type, strict=True)]
            regions = sum(s.regions for s, inside in zip(surveys, of_type, strict=True) if inside)
            found[f"aupro:{defect}"] = aupro_from(ranks, np.concatenate(shares), regions)
    return found


def _put(found: dict[str, Any], values: dict[str, float]) -> None:
    found.update({name: None if np.isnan(value) else value for name, value in values.items()})


def _enough(defective: np.ndarray) -> bool:
    """Two images of each class that is there: one alone would be drawn every time."""
    sizes = np.bincount(defective.astype(int))
    return bool((sizes[sizes > 0] > 1).all()) and len(defective) > 0


def _put_intervals(found: dict[str, Any], level: str, curves: Curves, weights: Floats) -> None:
    if not curves.positive_count.any() or not curves.negative_count.any():
        return
    for name, values in ranking_of(curves, weights).items():
        _put_interval(found, f"{level}_{name}", values)
    if level == "pixel":
        for name, limit in AUPRO_LIMITS.items():
            _put_interval(found, name, aupro_of(curves, weights, limit))


def _put_interval(found: dict[str, Any], name: str, values: Floats) -> None:
    low, high = interval(values)
    if found.get(name) is not None and not np.isnan(low):
        found[f"{name}_low"], found[f"{name}_high"] = low, high
