"""Does a student learn the corners of an image as soon as the rest?

    python benchmarks/corners.py DATA --textures DIR --seeds 1 4 5 [--full-rate]

Trains `urd` for a few iterations and prints, per level, the mean cosine distance of teacher and
student in the worst corner over that of the interior, on good training images: below 1 corners are
learned sooner. `--full-rate` begins without the warm-up. No test image is opened.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from urd import Detector
from urd.data import decode_all, read_layout
from urd.training.losses import local_distance

_EVERY = 24  # of the good images one is looked at
_COARSEST = 16  # pixels of a place of level 3; a corner is one such place


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
    options["warm_up"] = 0 if full else -1
    for seed in seeds:
        detector = Detector.fit(data, seed=seed, batch_size=8, holdout=0.0, **options)
        ratios = _ratios(detector, data)
        print(f"seed {seed}: " + ", ".join(f"level {k} {r:.2f}" for k, r in enumerate(ratios, 1)))


def _ratios(detector: Detector, data: str) -> list[float]:
    """Of each level: worst corner over interior."""
    size = detector.config.image_size
    good = [sample.path for sample in read_layout(data).train[::_EVERY]]
    pixels = torch.from_numpy(decode_all(good, size)[0]).float() / 255
    mean, std = torch.tensor(detector.header.mean), torch.tensor(detector.header.std)
    with torch.inference_mode():
        teacher, student = detector.model(((pixels - mean) / std).permute(0, 3, 1, 2))
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
