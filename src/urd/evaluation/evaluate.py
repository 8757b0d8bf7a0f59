"""A labelled test set, judged: metrics, curves, and what was said of each image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from urd.config import FitConfig
from urd.data import DEFAULT_READING, DataSet, Reading, Sample, read_masks, resize_mask
from urd.errors import UrdError, UsageError, first_line
from urd.evaluation.schema import EvaluationDetails, EvaluationMetrics
from urd.evaluation.tally import Tally
from urd.inspection.prediction import Failure, Prediction
from urd.metrics import PIXEL_PROTOCOL, evaluate_maps, pro_curve, roc_curve
from urd.system.documents import MIB, read_json
from urd.system.files import json_text, printable, refuse_special, write_texts
from urd.system.schema import check

EVALUATION_NAME, DETAILS_NAME = "evaluation.json", "evaluation_details.json"
_SCHEMAS = {EVALUATION_NAME: EvaluationMetrics, DETAILS_NAME: EvaluationDetails}
_MOST_BYTES = 64 * MIB


@dataclass(frozen=True)
class Evaluation:
    """What a detector did on a test set.

    Attributes:
        metrics: flat: what `urd.metrics.evaluate` gives, the protocol, and what was measured.
        images: per image its path, type of defect, score and verdict; of one that could not be
            judged the score is `None`, the verdict ERROR, and `reason` says why.
        curves: `roc` of image scores and `pro` of pixels, each as (false-positive rates, rates);
            those that are undefined are absent.
        failures: images that could not be judged.
    """

    metrics: dict[str, Any]
    images: list[dict[str, Any]]
    curves: dict[str, tuple[list[float], list[float]]]
    failures: list[Failure]

    def write(self, run: Path) -> None:
        """Keep it in a run folder: the figures, and what a report needs beside them."""
        details = {"images": self.images, "curves": self.curves}
        texts = {DETAILS_NAME: json_text(details), EVALUATION_NAME: json_text(self.metrics)}
        write_texts({run / name: text for name, text in texts.items()})


def read_evaluation(
    run: Path, weights: str | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What `Evaluation.write` has left in a run folder: the figures, and the details.

    Args:
        weights: fingerprint of the model of today, `Engine.weights_sha256`.

    Raises:
        UrdError: one cannot be read or is missing, or they are of another model or of two calls.
    """
    metrics = read_written(run / EVALUATION_NAME) if run.is_dir() else None
    if metrics is None:  # details without figures are of a call that was killed
        return None, None
    if metrics.get("weights_sha256", weights) != weights:
        raise UrdError(f"{run / EVALUATION_NAME} is of another model: run urd evaluate anew")
    details = read_written(run / DETAILS_NAME)
    images = details["images"] if details is not None else []
    judged = sum(image["verdict"] != "ERROR" for image in images)
    if judged != metrics["n_good"] + metrics["n_defective"]:
        raise UrdError(
            f"{EVALUATION_NAME} and {DETAILS_NAME} in {run} do not belong together: run urd "
            "evaluate anew"
        )
    return metrics, details


def read_written(path: Path) -> dict[str, Any] | None:
    """One of the files that `Evaluation.write` leaves; `None` where there is none.

    Raises:
        UrdError: it cannot be read, or was not written by it.
    """
    refuse_special(path)
    if not path.exists():
        return None
    try:
        content = read_json(path, _MOST_BYTES)
        check(_SCHEMAS[path.name], content)
    except ValueError as error:
        raise UrdError(
            f"{path} cannot be read ({first_line(error)}): run urd evaluate anew"
        ) from error
    return dict(content)


def evaluate_predictions(
    data_set: DataSet,
    judged: Iterable[Prediction | Failure],
    config: FitConfig,
    *,
    in_regions: bool,
    resamples: int,
    reading: Reading = DEFAULT_READING,
) -> Evaluation:
    """Compare what was judged of `data_set.test`, in its order, with the labels.

    Args:
        in_regions: pixels count in their image's region of interest only.
        reading: how masks are read.

    Images that could not be judged are no part of the metrics; `n_not_judged` counts them.

    Raises:
        UsageError: a mask is of another size than its image.
        UrdError: no test image could be judged.
    """
    rows: list[dict[str, Any]] = []
    samples: list[Sample] = []
    results: list[Prediction] = []
    masks: list[np.ndarray] = []
    failures: list[Failure] = []
    for sample, result in zip(data_set.test, judged, strict=True):
        rows.append(_row(sample, result))
        if isinstance(result, Failure):
            failures.append(result)
            continue
        samples.append(sample)
        results.append(result)
        masks.append(mask_of(sample, result.size, config.image_size, reading))
    if not samples:
        first = failures[0]
        raise UrdError(f"no test image can be judged; {first.path}: {first.reason}")
    maps = [result.anomaly_map for result in results]
    scores = np.array([result.score for result in results])
    inspected = [result.region for result in results]
    metrics = evaluate_maps(
        maps,
        scores,
        [sample.defect for sample in samples],
        masks if data_set.has_masks else None,
        names=[str(sample.path) for sample in samples],
        inspected=inspected,
        resamples=resamples,
    )
    defective = np.array([sample.defective for sample in samples])
    curves = {"roc": roc_curve(scores[~defective], scores[defective])}
    if data_set.has_masks:
        curves["pro"] = pro_curve(maps, masks, inspected)
    return Evaluation(
        {
            **metrics,
            **Tally.of(rows).metrics(),
            "protocol": _protocol(config, data_set.has_masks, in_regions),
            "variant": config.variant,
            "backbone": config.tag,
            "seed": config.seed,
        },
        rows,
        {name: (x.tolist(), y.tolist()) for name, (x, y) in curves.items() if len(x)},
        failures,
    )


def refuse_unusable(data_set: DataSet) -> None:
    """Refuse a test set whose labels are incomplete, before any image is scored."""
    if not data_set.test:
        raise UsageError(
            f"no labelled test images in {data_set.root}: expected test/good and test/<defect>"
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


def _row(sample: Sample, result: Prediction | Failure) -> dict[str, Any]:
    row = {"path": printable(sample.path.absolute()), "defect": sample.defect}
    if isinstance(result, Failure):
        return {**row, "score": None, "verdict": result.verdict, "reason": result.reason}
    return {**row, "score": result.score, "verdict": result.verdict}


def mask_of(
    sample: Sample,
    image_size: tuple[int, int],
    size: tuple[int, int],
    reading: Reading = DEFAULT_READING,
) -> np.ndarray:
    """The sample's mask at the network's `size`: bilinear, threshold one half."""
    if not sample.masks:
        return np.zeros(size, bool)
    mask = read_masks(sample.masks, reading)
    if mask.shape != image_size:
        raise UsageError(
            f"mask {sample.masks[0]} is {mask.shape[1]}x{mask.shape[0]}, its image "
            f"{sample.path.name} is {image_size[1]}x{image_size[0]}"
        )
    return resize_mask(mask, size)


def _protocol(config: FitConfig, has_masks: bool, in_regions: bool) -> str:
    height, width = config.image_size
    pixel = (
        f"masks resized bilinearly, threshold 0.5; {PIXEL_PROTOCOL}"
        if has_masks
        else "no masks, image metrics only"
    )
    where = ", pixels in the region of interest only" if in_regions else ""
    return (
        f"{height}x{width} px{where}, iteration {config.iterations} (last), labels from "
        f"folders, {pixel}; F1-max uses the labels to choose its threshold"
    )
