"""Frozen features under nearest neighbours: what an encoder is worth before any training.

    python -m pretraining.probe DATA... [--backbone TAG] [--weights FILE] [--drawn [--on-part]]

Of each good training image 60 random places are remembered: the three levels, averaged over 3x3 and
brought to level 2's size, each as a vector of unit length. A place's anomaly is the sum over levels
of 1 - cosine to the most alike of them. (After PatchCore, Roth et al., CVPR 2022, without its
coreset, and with the distance that reverse distillation uses.)

The built-in backbone's levels are whitened by the images remembered, as `urd fit` does it but for
the offset: a larger one quietens plain grounds, and would teach a student too slowly.
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

from pretraining.drawn_defects import DrawnSet
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
OFFSET = 1.5  # deviations; chosen by drawn defects, see docs/research/builtin-backbone.md
METRICS = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
_BATCH = 16
_LEVELS = 3
_STRIDE = 8  # of level 2


@dataclass(frozen=True)
class Whitening:
    """How the built-in encoder's levels are whitened."""

    offset: float
    shrinkage: float

    def apply(self, encoder: Encoder, good: NDArray[np.uint8]) -> None:
        assert isinstance(encoder, WhitenedEncoder)
        pixels = torch.from_numpy(good).permute(0, 3, 1, 2)
        whiten(encoder, pixels, self.shrinkage, self.offset)


def probe(
    encoder: Encoder, data: DataSet, seed: int = 0, whitening: Whitening | None = None
) -> dict[str, Any]:
    """The metrics of `urd evaluate` of nearest-neighbour scores on the data set's test images.

    `whitening`: the encoder is the built-in one and gets its levels by the images remembered.
    """
    refuse_unusable(data)
    memory, _, _ = decode_or_refuse(
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
    """The same on good training images that are held out, some with a defect drawn on them.

    No test image and no label takes part: objectives and recipes may be chosen by it.
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
        distance = _LEVELS - likeness.amax(dim=1).view(1, 1, *grid)
        maps.append(functional.interpolate(distance, SIZE, mode="bilinear", align_corners=True))
    blurred = gaussian_blur(torch.cat(maps)[:, 0])
    scores = image_score(blurred).cpu().numpy()
    return evaluate_maps(list(blurred.cpu().numpy()), scores, defects, masks)


def _remembered(encoder: Encoder, images: NDArray[np.uint8], seed: int) -> Tensor:
    """(60 N, C): some places of each image."""
    kept = []
    for index, features in enumerate(_features(encoder, images)):
        order = torch.randperm(len(features), generator=generator(seed, "places", index))
        kept.append(features[order[:PLACES].to(features.device)])
    return torch.cat(kept)


@torch.inference_mode()
def _features(encoder: Encoder, images: NDArray[np.uint8]) -> Iterator[Tensor]:
    """(places, C_1 + C_2 + C_3) per image: one unit vector per level, side by side."""
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
    parser.add_argument("--weights", default="auto", help="as of urd fit")
    parser.add_argument(
        "--drawn", action="store_true", help="on defects drawn on good training images"
    )
    parser.add_argument("--on-part", action="store_true", help="with --drawn: not beside the part")
    parser.add_argument(
        "--write",
        type=Path,
        help="with --drawn: keep the data sets there, for urd fit and evaluate",
    )
    parser.add_argument(
        "--offset",
        type=float,
        default=OFFSET,
        help="of the built-in backbone's levels, in deviations (default: %(default)s; urd fit "
        f"shifts by {FIT_OFFSET})",
    )
    parser.add_argument(
        "--shrinkage",
        type=float,
        default=SHRINKAGE,
        help="of its whitening, of the largest eigenvalue (default: %(default)s, as urd fit)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of places, and of what is drawn")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    progress.show()
    try:
        _probe_all(parser.parse_args())
    except UrdError as error:
        raise SystemExit(f"urd: {first_line(error)}") from error


def _probe_all(options: argparse.Namespace) -> None:
    if (options.write or options.on_part) and not options.drawn:
        raise UsageError("--write and --on-part are of defects that are drawn: add --drawn")
    if options.write and len({Path(data).name for data in options.data}) < len(options.data):
        raise UsageError("--write names its folders by those of the data, and two are alike")
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
