"""Compares how fast a student learns the corners and the interior of an image.

    python benchmarks/corners.py DATA --textures DIR --seeds 1 4 5 [--full-rate]

Trains `urd` for a few iterations. For each level it prints the mean cosine distance of teacher and
student in the worst corner, divided by that in the interior, on good training images. Below 1 the
student learns corners sooner. `--full-rate` starts without warm-up. No test image is opened.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from urd import Detector
from urd.data import decode_all, read_layout
from urd.networks.cosine import local_distance

_EVERY = 24  # one of this many good images is used
_COARSEST = 16  # image pixels per location of level 3; a corner is one such location


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--textures", default="procedural")
    parser.add_argument("--foreground", default="none")
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--full-rate", action="store_true")
    options = vars(parser.parse_args())
    data, seeds, full = (options.pop(name) for name in ("data", "seeds", "full_rate"))
    if full:
        options["warm_up"] = 0
    for seed in seeds:
        detector = Detector.fit(data, seed=seed, batch_size=8, holdout=0.0, **options)
        ratios = _ratios(detector, data)
        print(f"seed {seed}: " + ", ".join(f"level {k} {r:.2f}" for k, r in enumerate(ratios, 1)))


def _ratios(detector: Detector, data: str) -> list[float]:
    """For each level: worst corner divided by interior."""
    size = detector.config.image_size
    good = [sample.path for sample in read_layout(data).train[::_EVERY]]
    pixels = torch.from_numpy(decode_all(good, size)[0]).float() / 255
    with torch.inference_mode():
        teacher, student = detector.model(pixels.permute(0, 3, 1, 2))
        maps = [local_distance(t, s).mean(0) for t, s in zip(teacher, student, strict=True)]
    return [_worst_corner(m, _COARSEST * m.shape[0] // size[0]) / _interior(m) for m in maps]


def _worst_corner(m: Tensor, width: int) -> float:
    ends = (slice(0, width), slice(-width, None))
    return max(float(m[rows, columns].mean()) for rows in ends for columns in ends)


def _interior(m: Tensor) -> float:
    edge = m.shape[0] // 8
    return float(m[edge:-edge, edge:-edge].mean())


if __name__ == "__main__":
    main()
