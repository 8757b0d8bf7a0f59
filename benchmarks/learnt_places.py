"""Shows which places of good images a student has not learnt, seed by seed.

    python benchmarks/learnt_places.py DATA --seeds 0 1 2 [--set warm_up=0 schedule=constant]

Trains, and prints for each level the cosine distance of teacher and student on good training
images: the mean, and the worst place as a multiple of the median place. A place is as large as one
of level 3, and its distance is the mean over the images. A place that was not learnt, such as a
corner, has a high ratio. A training that failed has another mean than other seeds. No test image
is opened.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from urd import Detector
from urd.data import decode_all, read_layout
from urd.networks.cosine import local_distance
from urd.system.files import write_json
from urd.system.machine import machine

_IMAGES = 24
_COARSEST = 16  # image pixels per place of level 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--json", type=Path, help="add the rows to this file")
    options = parser.parse_args()
    settings = dict(text.split("=", 1) for text in options.set)
    rows = []
    for seed in options.seeds:
        detector = Detector.fit(options.data, seed=seed, **{"holdout": 0.0, **settings})
        rows.append({"seed": seed, **_learnt(detector, options.data)})
        print(_said(rows[-1]), flush=True)
    means = [row["mean"] for row in rows]
    for level, values in enumerate(zip(*means, strict=True), 1):
        spread = max(values) / statistics.median(values)
        print(f"level {level}: the worst seed's mean is {spread:.2f} times the median seed's")
    if options.json:
        known = json.loads(options.json.read_text()) if options.json.exists() else []
        told = {key: _without_folder(value) for key, value in settings.items()}
        name = Path(options.data).name
        run = {"data": name, "settings": told, "seeds": rows, "machine": machine()}
        write_json(options.json, [*known, run])


def _without_folder(value: str) -> str:
    """A path without its folders: where files lie belongs to a machine, not to a result."""
    return Path(value).name if Path(value).exists() else value


def _learnt(detector: Detector, data: str) -> dict[str, Any]:
    """For each level the mean distance, and the worst place over the median place."""
    size = detector.config.image_size
    paths = [sample.path for sample in read_layout(data).train]
    good = paths[:: max(1, len(paths) // _IMAGES)]
    pixels = torch.from_numpy(decode_all(good, size)[0]).float() / 255
    with torch.inference_mode():
        teacher, student = detector.model(pixels.permute(0, 3, 1, 2))
        maps = [local_distance(t, s).mean(0) for t, s in zip(teacher, student, strict=True)]
    places = [functional.avg_pool2d(m[None], _COARSEST * m.shape[0] // size[0]) for m in maps]
    return {
        "mean": [round(float(m.mean()), 4) for m in maps],
        "worst_over_median": [round(float(p.max() / p.median()), 2) for p in places],
    }


def _said(row: dict[str, Any]) -> str:
    levels = zip(row["mean"], row["worst_over_median"], strict=True)
    parts = [f"level {k} {mean:.3f} ({worst:.1f})" for k, (mean, worst) in enumerate(levels, 1)]
    return f"seed {row['seed']}: " + ", ".join(parts)


if __name__ == "__main__":
    main()
