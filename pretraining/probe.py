"""Measure an encoder by nearest neighbours of its frozen features, before any training.

    python -m pretraining.probe DATA... [--backbone TAG] [--weights FILE] [--drawn [--on-part]]

The probe remembers 60 random places of each good training image: the three levels, averaged over
3x3 and resized to level 2, each as a unit vector. The anomaly of a place is the sum over levels of
1 - cosine to the most similar remembered place. (After PatchCore, Roth et al., CVPR 2022, without
its coreset, and with the distance of reverse distillation.)

The levels of the built-in backbone are whitened with the remembered images, as in `urd fit`, but
with a larger offset: it reduces the noise of plain surfaces. In `urd fit` it would slow down the
student.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pretraining.drawn_set import DrawnSet
from urd.backbones.encoder import Encoder
from urd.backbones.registry import backbone_of
from urd.backbones.whitening import OFFSET as FIT_OFFSET
from urd.backbones.whitening import SHRINKAGE, WhitenedEncoder, whiten
from urd.data import (
    DEFAULT_READING,
    DataSet,
    Sample,
    decode_or_refuse,
    read_layout,
    read_rgb,
    resize_rgb,
)
from urd.errors import UrdError, UsageError, first_line
from urd.evaluation.evaluate import mask_of, refuse_unusable
from urd.inspection.scoring import gaussian_blur, image_score
from urd.metrics import evaluate_maps
from urd.system import progress
from urd.system.seeding import generator

SIZE = (256, 256)
PLACES = 60
OFFSET = 1.5  # standard deviations; chosen by drawn defects: docs/research/builtin-backbone.md
METRICS = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
_BATCH = 16
_LEVELS = 3
_STRIDE = 8  # of level 2


@dataclass(frozen=True)
class Whitening:
    """Settings for whitening the levels of the built-in encoder; see `whiten`."""

    offset: float
    shrinkage: float

    def apply(self, encoder: Encoder, good: NDArray[np.uint8]) -> None:
        assert isinstance(encoder, WhitenedEncoder)
        pixels = torch.from_numpy(good).permute(0, 3, 1, 2)
        whiten(encoder, pixels, self.shrinkage, self.offset)


def probe(
    encoder: Encoder, data: DataSet, seed: int = 0, whitening: Whitening | None = None
) -> dict[str, Any]:
    """The metrics of `urd evaluate` for nearest-neighbour scores on the test images of a data set.

    Args:
        whitening: only for the built-in encoder: whiten its levels with the remembered images.
    """
    refuse_unusable(data)
    memory, *_ = decode_or_refuse(
        [sample.path for sample in data.train],
        SIZE,
        DEFAULT_READING,
        at_least=max(1, len(data.train)),
        what="good images",
        label="Reading",
    )
    test, masks = zip(*(_labelled(sample) for sample in data.test), strict=True)
    if whitening:
        whitening.apply(encoder, memory)
    defects = [sample.defect for sample in data.test]
    return _compared(encoder, memory, np.stack(test), defects, list(masks), seed)


def _labelled(sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A test image and its mask, both at `SIZE`."""
    image = read_rgb(sample.path)
    return resize_rgb(image, SIZE), mask_of(sample, (image.height, image.width), SIZE)


def probe_drawn(
    encoder: Encoder, drawn: DrawnSet, seed: int = 0, whitening: Whitening | None = None
) -> dict[str, Any]:
    """As `probe`, on held-out good training images; some have a drawn defect.

    It uses no test image and no label, so it may choose objectives and recipes.
    """
    masks = [np.zeros(SIZE, bool)] * len(drawn.good) + [mask for _, mask in drawn.drawn]
    test = np.concatenate([drawn.good, np.stack([image for image, _ in drawn.drawn])])
    defects = ["good"] * len(drawn.good) + ["drawn"] * len(drawn.drawn)
    if whitening:
        whitening.apply(encoder, drawn.memory)
    return _compared(encoder, drawn.memory, test, defects, masks, seed)


def _compared(
    encoder: Encoder,
    good: NDArray[np.uint8],
    test: NDArray[np.uint8],
    defects: list[str],
    masks: list[NDArray[np.bool_]],
    seed: int,
) -> dict[str, Any]:
    memory = _remembered(encoder, good, seed)
    grid = (SIZE[0] // _STRIDE, SIZE[1] // _STRIDE)
    likeness = memory.new_empty(grid[0] * grid[1], len(memory))
    maps = []
    for features in _features(encoder, test):
        torch.mm(features, memory.T, out=likeness)
        # A row joins one unit vector per level, so the product is the sum of the cosines.
        distance = _LEVELS - likeness.amax(dim=1).view(1, 1, *grid)
        maps.append(functional.interpolate(distance, SIZE, mode="bilinear", align_corners=True))
    blurred = gaussian_blur(torch.cat(maps)[:, 0])
    scores = image_score(blurred).cpu().numpy()
    return evaluate_maps(list(blurred.cpu().numpy()), scores, defects, masks)


def _remembered(encoder: Encoder, images: NDArray[np.uint8], seed: int) -> Tensor:
    """The features of 60 random places of each of N images, (60 N, C)."""
    kept = []
    for index, features in enumerate(_features(encoder, images)):
        order = torch.randperm(len(features), generator=generator(seed, "places", index))
        kept.append(features[order[:PLACES].to(features.device)])
    return torch.cat(kept)


@torch.inference_mode()
def _features(encoder: Encoder, images: NDArray[np.uint8]) -> Iterator[Tensor]:
    """For each image (places, C_1 + C_2 + C_3): one unit vector per level, side by side."""
    device = next(encoder.parameters()).device
    size = (SIZE[0] // _STRIDE, SIZE[1] // _STRIDE)
    for batch in torch.from_numpy(images).permute(0, 3, 1, 2).split(_BATCH):
        levels = encoder(batch.to(device).float() / 255)
        together = torch.cat(
            [functional.normalize(_at_size(_around(level), size), dim=1) for level in levels], dim=1
        )
        yield from together.flatten(2).transpose(1, 2).contiguous()


def _around(features: Tensor) -> Tensor:
    return functional.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)


def _at_size(features: Tensor, size: tuple[int, int]) -> Tensor:
    if features.shape[-1] > size[1]:
        return functional.adaptive_avg_pool2d(features, size)
    return functional.interpolate(features, size, mode="bilinear", align_corners=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="category folders in any layout with labels")
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--weights", default="auto", help="as in urd fit")
    parser.add_argument(
        "--drawn", action="store_true", help="test with defects drawn on good training images"
    )
    parser.add_argument("--on-part", action="store_true", help="with --drawn: only on the part")
    parser.add_argument(
        "--write",
        type=Path,
        help="with --drawn: write the data sets to this folder, for urd fit and evaluate",
    )
    parser.add_argument(
        "--offset",
        type=float,
        default=OFFSET,
        help="offset of the built-in backbone's levels, in standard deviations (default: "
        f"%(default)s; urd fit uses {FIT_OFFSET})",
    )
    parser.add_argument(
        "--shrinkage",
        type=float,
        default=SHRINKAGE,
        help="shrinkage of its whitening, as a share of the largest eigenvalue (default: "
        "%(default)s, as in urd fit)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of places and drawn defects")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    progress.show()
    try:
        _probe_all(parser.parse_args())
    except UrdError as error:
        raise SystemExit(f"urd: {first_line(error)}") from error


def _probe_all(options: argparse.Namespace) -> None:
    if (options.write or options.on_part) and not options.drawn:
        raise UsageError("--write and --on-part need --drawn")
    if options.write and len({Path(data).name for data in options.data}) < len(options.data):
        raise UsageError("--write needs data folders with different names: it uses these names")
    backbone = backbone_of(options.backbone, options.weights)
    encoder = backbone.load(generator(options.seed, "encoder")).eval()
    wanted = backbone.images_to_prepare(*SIZE)
    whitening = Whitening(options.offset, options.shrinkage) if wanted else None
    results = {}
    for data in options.data:
        if options.drawn:
            drawn = DrawnSet.on(read_layout(data), SIZE, options.seed, options.on_part)
            if options.write:
                drawn.write(options.write / Path(data).name)
            measured = probe_drawn(encoder, drawn, options.seed, whitening)
        else:
            measured = probe(encoder, read_layout(data), options.seed, whitening)
        results[data] = {name: measured[name] for name in METRICS}
        print(data, *(f"{name} {_text(measured[name])}" for name in METRICS), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    main()
