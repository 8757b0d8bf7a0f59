"""Measures each score of trained runs on test images, and on drawn defects without any label.

    python benchmarks/score_table.py DATA RUN [RUN ...] --json FILE

RUN is a run of `urd-memory` with held-out images. Its student alone, its memory alone and both
together are measured on the test images of DATA. The same is done on held-out images against copies
of them with drawn defects; by such images `--score auto` decides. `chosen` is what it has chosen.
Each row has the 95 % intervals of its differences from `chosen`, from 1,000 paired resamples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from urd import Detector
from urd.data import DataSet, Reading, decode_all, read_layout
from urd.engines.torch_engine import TorchEngine
from urd.evaluation.evaluate import kept_on_disk
from urd.evaluation.maps_on_disk import maps_on_disk
from urd.inspection.score import Score
from urd.metrics.comparison import compare
from urd.synthesis.drawn_defects import draw_defect
from urd.system.files import write_json
from urd.system.machine import machine
from urd.system.seeding import derived_seed
from urd.training.synthesis_inputs import find_foreground
from urd.training.training_data import held_out

_FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
_DRAWN = 128  # at least so many defects are drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--json", type=Path, required=True, help="add the rows to this file")
    options = parser.parse_args()
    for run in options.runs:
        detector = Detector.load(run)
        sets = {"test": read_layout(options.data)}
        with tempfile.TemporaryDirectory() as folder:
            sets["drawn"] = _drawn(detector, options.data, Path(folder))
            rows = [
                {**row, "images": kind, "data": options.data.name, **_facts(detector)}
                for kind, data_set in sets.items()
                for row in _measured(detector, data_set)
            ]
        for row in rows:
            print(_said(row), flush=True)
        known = json.loads(options.json.read_text()) if options.json.exists() else []
        write_json(options.json, [*known, *rows])


def _scores(score: Score) -> dict[str, Score]:
    """The scores to measure, by name; `chosen` is what the run has in its header."""
    alone = {f"student, {name}": Score(name=name) for name in ("paper", "weighted", "squared")}
    memory = Score(name="memory", levels=(0.0, 0.0, 0.0), memory=1.0)
    return {"chosen": score, **alone, "memory": memory}


def _measured(detector: Detector, data_set: DataSet) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    paths = [sample.path for sample in data_set.test]
    size = detector.config.image_size
    with maps_on_disk() as maps:
        kept = {}
        for name, score in _scores(detector.header.score).items():
            header = replace(detector.header, score=score, calibration=None)
            engine = TorchEngine(detector.model, header, detector.engine._device)
            judged = Detector(engine, header).predict_many(paths)
            kept[name] = kept_on_disk(data_set, judged, size, maps, detector.reading)
            if kept[name].failures:
                raise SystemExit(f"not judged: {kept[name].failures[0].path}")
        for name in kept:
            found = compare(kept["chosen"].test, kept[name].test, has_masks=data_set.has_masks)
            differences = {d.name: d for d in found if d.name in _FIGURES}
            row: dict[str, Any] = {"score": name}
            for metric, d in differences.items():
                row[metric] = round(d.b, 4)
                if d.low is not None and d.high is not None:
                    row[f"{metric}_against_chosen"] = [round(d.low, 4), round(d.high, 4)]
            rows.append(row)
    return rows


def _drawn(detector: Detector, data: Path, folder: Path) -> DataSet:
    """A labelled set of the held-out images and of copies with drawn defects."""
    config = detector.config
    paths = held_out([sample.path for sample in read_layout(data).train], detector.header)
    if not paths:
        raise SystemExit(f"the run was not trained on {data}, or holds out nothing")
    images, *_ = decode_all(paths, config.image_size, Reading.of(config))
    foreground, _ = find_foreground(images, paths, config)
    random = np.random.default_rng(derived_seed(config.seed, "score table"))
    for n, image in enumerate(images):
        _save(image, folder / "test" / "good" / f"{n:03}.png")
        for copy in range(-(-_DRAWN // len(images))):
            part = None if foreground is None else foreground[n].numpy()
            drawn, mask = draw_defect(image, images[n - 1], random, part)
            _save(drawn, folder / "test" / "drawn" / f"{n:03}_{copy}.png")
            mask_path = folder / "ground_truth" / "drawn" / f"{n:03}_{copy}_mask.png"
            _save((mask * 255).astype(np.uint8), mask_path)
    _save(images[0], folder / "train" / "good" / "0.png")  # a layout needs one
    return read_layout(folder)


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def _facts(detector: Detector) -> dict[str, Any]:
    config = detector.config
    return {
        "backbone": config.tag,
        "student": config.student,
        "iterations": config.iterations,
        "seed": config.seed,
        "auto": detector.header.score.model_dump(),
        "machine": machine(),
    }


def _said(row: dict[str, Any]) -> str:
    figures = " / ".join(f"{100 * row[name]:.1f}" for name in _FIGURES if name in row)
    return f"{row['data']} seed {row['seed']} {row['images']:5} {row['score']:18} {figures}"


if __name__ == "__main__":
    main()
