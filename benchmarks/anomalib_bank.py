"""Measures anomalib's memory bank (PatchCore) on one data set, and runs of `urd` against it.

    python benchmarks/anomalib_bank.py DATA --weights FILE --maps FOLDER --json FILE

The bank is anomalib's own model: ResNet-18, levels 2 and 3, a greedy coreset of 1 %, 9 neighbours,
256 px. It sees the images as `urd` reads them, and the exact metrics of `urd` measure it. Its maps
and scores stay in FOLDER; a second call takes them from there. `--against RUN` measures runs too,
and gives the 95 % interval of each difference from the bank, from 1,000 paired resamples.

It needs the extra `anomalib`. OMP_NUM_THREADS=1 gives it one thread, like a training beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from safetensors.torch import load_file
from torchvision.transforms.functional import normalize

from urd import Detector
from urd.data import DataSet, decode_all, read_layout
from urd.evaluation.evaluate import kept_on_disk, mask_of
from urd.evaluation.maps_on_disk import maps_on_disk
from urd.metrics.comparison import Difference, compare
from urd.metrics.images import TestImage
from urd.system.files import write_json
from urd.system.machine import machine

_FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
_SIZE = (256, 256)
_SHARE = 0.01  # of the features stay in the bank
_BATCH = 8
_TIMED = 50  # test images that a run judges one by one, for its time per image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="safetensors of ResNet-18")
    parser.add_argument("--maps", type=Path, required=True, help="keep the bank's maps here")
    parser.add_argument("--against", type=Path, nargs="*", default=[], metavar="RUN")
    parser.add_argument("--json", type=Path, required=True, help="add the rows to this file")
    options = parser.parse_args()
    data_set = read_layout(options.data)
    options.maps.mkdir(parents=True, exist_ok=True)
    facts = options.maps / "facts.json"
    rows = []
    measured = facts.exists()
    if not measured:
        write_json(facts, _measure_bank(data_set, options.weights, options.maps))
    about = json.loads(facts.read_text())
    bank = _bank_images(data_set, options.maps, about.pop("scores"))
    if not measured:
        found = {d.name: round(d.a, 4) for d in _differences(bank, bank, data_set)}
        rows.append({"method": "anomalib", **about, **found})
    rows += [_against(run, data_set, bank) for run in options.against]
    for row in rows:
        row.update(data=options.data.name, machine=machine())
        figures = " / ".join(f"{100 * row[name]:.1f}" for name in _FIGURES)
        print(f"{row['data']} {row['method']} {figures}", flush=True)
    known = json.loads(options.json.read_text()) if options.json.exists() else []
    write_json(options.json, [*known, *rows])


def _measure_bank(data_set: DataSet, weights: Path, folder: Path) -> dict[str, Any]:
    """Fits the bank, keeps its maps and scores, and returns how long it took."""
    torch.manual_seed(0)
    model = PatchcoreModel(layers=["layer2", "layer3"], backbone="resnet18", pre_trained=False)
    network = model.feature_extractor.feature_extractor
    unknown = network.load_state_dict(load_file(weights), strict=False)
    if unknown.missing_keys:
        raise SystemExit(f"{weights} lacks {unknown.missing_keys[0]}")
    began = time.monotonic()
    model.train()
    with torch.inference_mode():
        for images in _batches([sample.path for sample in data_set.train]):
            model(images)
        model.subsample_embedding(_SHARE)
    fitted = time.monotonic() - began
    model.eval()
    scores = []
    began = time.monotonic()
    with torch.inference_mode():
        for n, sample in enumerate(data_set.test):
            found = model(next(_batches([sample.path])))
            np.save(folder / f"{n:04}.npy", found.anomaly_map[0, 0].numpy())
            scores.append(float(found.pred_score[0]))
    each = (time.monotonic() - began) / len(data_set.test)
    return {
        "features": len(model.memory_bank),
        "fit_seconds": round(fitted, 1),
        "ms_per_image": round(1000 * each, 1),
        "scores": scores,
    }


def _batches(paths: list[Path]) -> Iterator[torch.Tensor]:
    """Normalised images (n, 3, H, W), as `urd` reads and resizes them."""
    for start in range(0, len(paths), _BATCH):
        images, *_ = decode_all(paths[start : start + _BATCH], _SIZE)
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        yield normalize(tensor, timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)


def _bank_images(data_set: DataSet, folder: Path, scores: list[float]) -> list[TestImage]:
    images = []
    sizes = decode_all([sample.path for sample in data_set.test], _SIZE).sizes
    for n, (sample, score, size) in enumerate(zip(data_set.test, scores, sizes, strict=True)):
        pair = np.load(folder / f"{n:04}.npy"), mask_of(sample, size, _SIZE)
        images.append(TestImage(str(sample.path), sample.defect, partial(tuple, pair), score))
    return images


def _against(run: Path, data_set: DataSet, bank: list[TestImage]) -> dict[str, Any]:
    detector = Detector.load(run)
    if detector.config.image_size != _SIZE:
        raise SystemExit(f"{run} is not of {_SIZE[0]}x{_SIZE[1]} px")
    judged = detector.predict_many([sample.path for sample in data_set.test])
    with maps_on_disk() as maps:
        kept = kept_on_disk(data_set, judged, _SIZE, maps, detector.reading)
        if kept.failures:
            raise SystemExit(f"not judged: {kept.failures[0].path}")
        found = _differences(bank, kept.test, data_set)
    began = time.monotonic()
    for sample in data_set.test[:_TIMED]:
        detector.predict(sample.path)
    each = (time.monotonic() - began) / len(data_set.test[:_TIMED])
    row: dict[str, Any] = {
        "method": detector.config.variant,
        "iterations": detector.config.iterations if detector.config.trains else None,
        "seed": detector.config.seed,
        "student": detector.config.student,
        "backbone": detector.config.tag,
        "ms_per_image": round(1000 * each, 1),
    }
    for d in found:
        row[d.name] = round(d.b, 4)
        if d.low is not None and d.high is not None:
            row[f"{d.name}_against_bank"] = [round(d.low, 4), round(d.high, 4)]
    return row


def _differences(a: list[TestImage], b: list[TestImage], data_set: DataSet) -> list[Difference]:
    return [d for d in compare(a, b, has_masks=data_set.has_masks) if d.name in _FIGURES]


if __name__ == "__main__":
    main()
