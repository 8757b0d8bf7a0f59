"""Compute all metrics of a test set at once, in bounded memory, by a named protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from urd.errors import UsageError
from urd.metrics.bootstrap import Curves, Resampled, image_curves, interval, pixel_curves, resample
from urd.metrics.components import FPR_LIMIT, Mask
from urd.metrics.curves import Curve, pro_from, roc_from
from urd.metrics.images import GOOD, Survey, TestImage, negative_chunks, survey
from urd.metrics.metric import METRICS, Metric, Ranked
from urd.metrics.ranking import Floats, Ranks, Scores, map_in_threads, rank, rank_arrays

PIXEL_PROTOCOL = (
    f"pixel metrics over the whole set; AUPRO exact, 8-connected regions, FPR to {FPR_LIMIT}"
)


@dataclass(frozen=True)
class Measured:
    """The result of measuring a test set.

    Attributes:
        figures: the result of `evaluate`.
        images, pixels: the ranks from which the figures are computed.
    """

    figures: dict[str, Any]
    images: Ranked
    pixels: Ranked

    def curves(self) -> dict[str, Curve]:
        """`roc` of the images and `pro` of the pixels; undefined curves are absent."""
        pixels = self.pixels
        curves = {
            "roc": roc_from(self.images.ranks),
            "pro": pro_from(pixels.ranks, pixels.shares, pixels.components),
        }
        return {name: (x, y) for name, (x, y) in curves.items() if len(x)}


def measure(
    images: Sequence[TestImage], *, has_masks: bool = True, resamples: int = 0, seed: int = 0
) -> Measured:
    """As `evaluate`, but the result can also give the curves."""
    surveys = list(map_in_threads(lambda image: survey(image, has_masks), images))
    defective = np.array([image.defective for image in images], bool)
    of_images = Ranked(_rank_images(surveys, defective, ~defective), surveys)
    of_pixels = Ranked(_rank_pixels(images, surveys), surveys)
    figures = {
        name: _value(metric, of_pixels if metric.needs_masks else of_images)
        for name, metric in METRICS.items()
    }
    figures |= _by_type(images, of_pixels)
    figures |= {"n_good": int((~defective).sum()), "n_defective": int(defective.sum())}
    if has_masks:
        figures["n_vanished_masks"] = sum(
            image.defective and survey.components == 0
            for image, survey in zip(images, surveys, strict=True)
        )
    if resamples and enough_for_resamples(defective):
        weights = resample(defective, resamples, np.random.default_rng(seed))
        figures |= _intervals(figures, images, surveys, weights)
    return Measured(figures, of_images, of_pixels)


def evaluate(
    images: Sequence[TestImage], *, has_masks: bool = True, resamples: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Compute every metric of `METRICS`; `None` if undefined (a class or the masks are missing).

    The result also has `n_good`, `n_defective`, `n_vanished_masks`, and for each type of defect
    `image_auroc:TYPE` and `aupro:TYPE`. With `resamples` it has the limits of 95 % bootstrap
    intervals over images, `NAME_low` and `NAME_high`, unless a class has only one image.

    The memory grows with the number of defective pixels (about 130 bytes each), not with the maps;
    intervals take up to 100 KiB per image.

    Args:
        has_masks: false: only image metrics.
        seed: the seed of the resamples.

    Raises:
        UsageError: a map or score holds NaN or Inf, or a map is not (H, W) or differs in size from
            its mask; or the mask of a good image is not empty.
    """
    return measure(images, has_masks=has_masks, resamples=resamples, seed=seed).figures


def evaluate_maps(
    maps: Sequence[Scores],
    scores: Scores,
    defects: Sequence[str],
    masks: Sequence[Mask] | None,
    *,
    names: Sequence[str] | None = None,
    rois: Sequence[Mask | None] | None = None,
    resamples: int = 0,
) -> dict[str, Any]:
    """As `evaluate`, for maps in memory.

    Args:
        maps: anomaly maps, (H, W) each.
        scores: one per image.
        defects: `good` or the type of defect of each image.
        masks: (H, W) bool, empty for good images; `None`: only image metrics.
        names: for messages; by default `image 0`, `image 1`, ...
        rois: the pixels of each image that count, (H, W) bool; `None`: all.

    Raises:
        UsageError: the arguments have different lengths or another order, or as `evaluate`.
    """
    images = in_memory(maps, scores, defects, masks, names=names, rois=rois)
    return evaluate(images, has_masks=masks is not None, resamples=resamples)


def in_memory(
    maps: Sequence[Scores],
    scores: Scores,
    defects: Sequence[str],
    masks: Sequence[Mask] | None,
    *,
    names: Sequence[str] | None = None,
    rois: Sequence[Mask | None] | None = None,
) -> list[TestImage]:
    """Test images from maps in memory; the arguments are those of `evaluate_maps`."""
    rois = rois or [None] * len(maps)
    names = names or [f"image {index}" for index in range(len(maps))]
    lengths = [len(each) for each in (maps, scores, defects, maps if masks is None else masks)]
    if len(set(lengths)) > 1:
        counts = ", ".join(map(str, lengths))
        raise UsageError(
            f"maps, scores, defects and masks are {counts} in number: give one of each per image"
        )

    wrong = next((defect for defect in defects if not isinstance(defect, str)), None)
    if wrong is not None or np.ndim(scores) != 1:
        raise UsageError(
            "give maps, then one score per image, then `good` or the name of a defect per image, "
            "then masks" + ("" if wrong is None else f"; {wrong!r} is no name")
        )

    def load(index: int) -> tuple[Scores, Mask]:
        whole = maps[index]
        return whole, np.zeros(whole.shape, bool) if masks is None else masks[index]

    return [
        TestImage(
            name,
            defect,
            partial(load, index),
            float(score),
            None if roi is None else partial(np.asarray, roi),
        )
        for index, (name, defect, score, roi) in enumerate(
            zip(names, defects, scores, rois, strict=True)
        )
    ]


def describe(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of a table for people: title, value and interval, with four decimals."""
    return [(metric.title, *_cells(result, name)) for name, metric in METRICS.items()]


def _cells(result: dict[str, Any], name: str) -> tuple[str, str]:
    if result.get(name) is None:
        return "undefined", ""
    low, high = result.get(f"{name}_low"), result.get(f"{name}_high")
    return f"{result[name]:.4f}", "" if low is None else f"{low:.4f} to {high:.4f}"


def _rank_images(surveys: Sequence[Survey], positive: Mask, negative: Mask) -> Ranks:
    scores = np.array([survey.score for survey in surveys])
    return rank_arrays(scores[negative], scores[positive])


def _rank_pixels(images: Sequence[TestImage], surveys: Sequence[Survey]) -> Ranks:
    """Rank the pixels; if all masks are empty, the maps are not loaded again."""
    positives = _positives(surveys)
    return rank(positives, negative_chunks(images, surveys) if len(positives) else [])


def _positives(surveys: Sequence[Survey]) -> Scores:
    return np.concatenate([s.positives for s in surveys]) if surveys else np.empty(0)


def _value(metric: Metric, ranked: Ranked) -> float | None:
    value = float("nan") if ranked.ranks.undefined else metric.compute(ranked)
    return None if np.isnan(value) else value


def _by_type(images: Sequence[TestImage], of_pixels: Ranked) -> dict[str, float | None]:
    """Figures per type: its images against all good ones, its components against all negatives."""
    surveys = of_pixels.surveys
    good = np.array([not image.defective for image in images], bool)
    figures = {}
    for defect in sorted({image.defect for image in images} - {GOOD}):
        of_type = np.array([image.defect == defect for image in images])
        ranked = Ranked(_rank_images(surveys, of_type, good), surveys)
        pixels = Ranked(of_pixels.ranks, _without_other_components(surveys, of_type))
        for metric in METRICS.values():
            if metric.by_type and (not metric.needs_masks or len(of_pixels.ranks.order)):
                seen = pixels if metric.needs_masks else ranked
                figures[f"{metric.name}:{defect}"] = _value(metric, seen)
    return figures


def _without_other_components(surveys: Sequence[Survey], kept: Mask) -> list[Survey]:
    """Give the pixels of other images zero weight; they stay positive."""
    return [
        survey if inside else replace(survey, shares=survey.shares * 0.0, components=0)
        for survey, inside in zip(surveys, kept, strict=True)
    ]


def enough_for_resamples(defective: np.ndarray) -> bool:
    """Whether each class has at least two images; a single one would be in every resample."""
    sizes = np.bincount(defective.astype(int))
    return bool((sizes[sizes > 0] > 1).all()) and len(defective) > 0


def _intervals(
    figures: dict[str, Any],
    images: Sequence[TestImage],
    surveys: Sequence[Survey],
    weights: Floats,
) -> dict[str, float]:
    """`NAME_low` and `NAME_high` of all defined figures."""
    known = [metric for name, metric in METRICS.items() if figures[name] is not None]
    found: dict[str, float] = {}
    for name, values in resampled(known, images, surveys, weights):
        low, high = interval(values)
        if not np.isnan(low):
            found |= {f"{name}_low": low, f"{name}_high": high}
    return found


def resampled(
    metrics: Sequence[Metric],
    images: Sequence[TestImage],
    surveys: Sequence[Survey],
    weights: Floats,
) -> Iterator[tuple[str, Floats]]:
    """The name of each metric and its values on the resamples `weights` (R, I), (R,).

    The curves of the images are gone before those of the pixels are made: both are large.
    """
    of_images = [metric for metric in metrics if not metric.needs_masks]
    of_pixels = [metric for metric in metrics if metric.needs_masks]
    if of_images:
        scores = np.array([survey.score for survey in surveys])
        defective = np.array([image.defective for image in images])
        yield from _values(of_images, image_curves(scores, defective), surveys, weights)
    if of_pixels:
        of_all = pixel_curves(images, surveys, _positives(surveys))
        yield from _values(of_pixels, of_all, surveys, weights)


def _values(
    metrics: Sequence[Metric], curves: Curves, surveys: Sequence[Survey], weights: Floats
) -> Iterator[tuple[str, Floats]]:
    drawn = Resampled(curves, weights, np.array([survey.per_image for survey in surveys]))
    for metric in metrics:
        yield metric.name, metric.resampled(drawn)
