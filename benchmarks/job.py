"""Compares a whole job, phase by phase, with a plain implementation in the same run.

    python benchmarks/job.py DATA --weights FILE --textures DIR [--iterations 300]

DATA is a category with a labelled test set. Ours is `urd fit` (which calibrates on its held-out
images), `urd evaluate` and `urd report`, each as a whole process. Plain is: the step of
`training_step.py` (float32, one forward pass at a time), timed 10 times and multiplied, because all
steps are alike; each test image alone, in float32, blurred by SciPy; and the metrics of
`metrics.py`, scikit-learn's and the per-image AUPRO at 200 thresholds. Plain has no report.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_STEPS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--textures", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--run", type=Path, help="keep our run in this folder")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/job.json"))
    options = parser.parse_args()
    from urd.system.files import write_json
    from urd.system.machine import machine

    with tempfile.TemporaryDirectory() as folder:
        mine = our_phases(options, options.run or Path(folder, "run"))
    theirs = plain_phases(options)
    result = {
        "backbone": options.backbone,
        "iterations": options.iterations,
        "batch_size": options.batch_size,
        "seconds": mine,
        "plain_seconds": theirs,
        "ratio": round(sum(theirs.values()) / sum(mine.values()), 2),
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))
    write_json(options.json, result)


def our_phases(options: argparse.Namespace, run: Path) -> dict[str, float]:
    fit = ["fit", str(options.data), "--out", str(run), "--backbone", options.backbone]
    fit += ["--weights", options.weights, "--textures", str(options.textures)]
    fit += ["--iterations", str(options.iterations), "--batch-size", str(options.batch_size)]
    verbs = {
        "fit and calibrate": fit,
        "evaluate": ["evaluate", str(run), str(options.data)],
        "report": ["report", str(run)],
    }
    return {name: _seconds(lambda words=words: _urd(words)) for name, words in verbs.items()}


def plain_phases(options: argparse.Namespace) -> dict[str, float]:
    import numpy as np
    import torch
    from metrics import plain_per_image, scikit_learn
    from scipy.ndimage import gaussian_filter
    from training_step import _data, _plain

    from urd.backbones.registry import backbone_of
    from urd.config import FitConfig
    from urd.data import decode_all, read_layout, read_masks, resize_mask
    from urd.networks.detector_network import DetectorNetwork
    from urd.networks.variants import VARIANTS
    from urd.system.seeding import generator

    config = FitConfig(backbone=(options.backbone,), batch_size=options.batch_size)
    expert = backbone_of(config.tag, options.weights).load(generator(0, "encoder"))
    step = _plain(expert, _data(config, torch.device("cpu")), config)
    step(0)
    steps = [_seconds(lambda i=i: step(i)) for i in range(1, _STEPS + 1)]
    data = read_layout(options.data)
    size = config.image_size
    began = time.perf_counter()
    decode_all([sample.path for sample in data.train], size)
    decoding = time.perf_counter() - began

    model = DetectorNetwork.build(expert, VARIANTS["urd"], generator(0, "student")).eval()
    maps: list[np.ndarray] = []

    def judge() -> None:
        for sample in data.test:
            pixels = torch.from_numpy(decode_all([sample.path], size)[0])
            image = pixels.permute(0, 3, 1, 2).float() / 255
            with torch.no_grad():
                levels = [
                    torch.nn.functional.interpolate(
                        1 - torch.cosine_similarity(t, s)[:, None],
                        size,
                        mode="bilinear",
                        align_corners=True,
                    )
                    for t, s in zip(*model(image.contiguous()), strict=True)
                ]
            maps.append(gaussian_filter(torch.stack(levels).sum(0)[0, 0].numpy(), 4))

    judging = _seconds(judge)
    masks = np.stack(
        [
            resize_mask(read_masks(sample.masks), size) if sample.masks else np.zeros(size, bool)
            for sample in data.test
        ]
    )
    stacked = np.stack(maps)
    return {
        "fit": round(decoding + options.iterations * statistics.median(steps), 1),
        "maps of the test images": judging,
        "AUROC and AP": _seconds(lambda: scikit_learn(stacked, masks)),
        "AUPRO at 200 thresholds": _seconds(lambda: plain_per_image(stacked, masks)),
    }


def _urd(words: list[str]) -> None:
    code = "from urd.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return round(time.perf_counter() - began, 1)


if __name__ == "__main__":
    main()
