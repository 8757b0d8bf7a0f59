"""Frozen features under nearest neighbours: what an encoder is worth before any training.

    python -m pretraining.probe DATA... [--backbone TAG] [--weights FILE]

Per image, 60 random places of the good training images are remembered as vectors: levels 2 and 3,
each averaged over 3x3, level 3 enlarged to level 2's size (Roth et al., PatchCore, CVPR 2022,
without its coreset). A place's anomaly is the distance to the nearest of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import urd.progress
from urd.data import DataSet, decode_all, read_layout, read_masks, resize_mask
from urd.material import normalisation
from urd.metrics import evaluate_maps
from urd.networks import Encoder
from urd.networks.weights import load_encoder
from urd.scoring import gaussian_blur, image_score
from urd.seeding import generator

SIZE = (256, 256)
PLACES = 60
METRICS = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
_BATCH = 16


def probe(encoder: Encoder, data: DataSet, seed: int = 0) -> dict[str, Any]:
    """The metrics of `urd evaluate` of nearest-neighbour scores on the data set's test images."""
    device = next(encoder.parameters()).device
    memory = torch.cat(
        [
            features[
                torch.randperm(len(features), generator=generator(seed, "places", index))[
                    :PLACES
                ].to(device)
            ]
            for index, features in enumerate(_features(encoder, [s.path for s in data.train]))
        ]
    )
    height, width = SIZE[0] // 8, SIZE[1] // 8
    maps = []
    for features in _features(encoder, [s.path for s in data.test]):
        nearest = torch.cdist(features, memory).amin(dim=1).reshape(1, 1, height, width)
        maps.append(
            functional.interpolate(nearest, SIZE, mode="bilinear", align_corners=True)[:, 0]
        )
    blurred = gaussian_blur(torch.cat(maps))
    masks = [
        resize_mask(read_masks(s.masks), SIZE) if s.masks else np.zeros(SIZE, bool)
        for s in data.test
    ]
    return evaluate_maps(
        list(blurred.cpu().numpy()),
        image_score(blurred).cpu().numpy(),
        [s.defect for s in data.test],
        masks,
    )


@torch.inference_mode()
def _features(encoder: Encoder, paths: list[Path]) -> Any:
    """(H/8 * W/8, C_2 + C_3) per image."""
    images, _, failures = decode_all(paths, SIZE)
    if failures:
        raise SystemExit(f"{failures[0].path}: {failures[0].reason}")
    device = next(encoder.parameters()).device
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in normalisation(encoder.tag))
    for batch in torch.from_numpy(images).permute(0, 3, 1, 2).split(_BATCH):
        _, fine, coarse = encoder((batch.to(device).float() / 255 - mean) / std)
        together = torch.cat([_around(fine), _enlarged(_around(coarse), fine)], dim=1)
        yield from together.flatten(2).transpose(1, 2)


def _around(features: Tensor) -> Tensor:
    return functional.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)


def _enlarged(coarse: Tensor, fine: Tensor) -> Tensor:
    return functional.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="category folders in any layout with labels")
    parser.add_argument("--backbone", default="builtin")
    parser.add_argument("--weights", default="auto", help="as of urd fit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    urd.progress.show()
    encoder = load_encoder(
        options.backbone, options.weights, generator(options.seed, "encoder")
    ).eval()
    results = {}
    for data in options.data:
        measured = probe(encoder, read_layout(data), options.seed)
        results[data] = {name: measured[name] for name in METRICS}
        print(data, *(f"{name} {measured[name]:.4f}" for name in METRICS), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
