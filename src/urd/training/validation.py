"""Validation without labels: held-out good images, clean and with synthetic anomalies.

The anomalies use textures that training does not use, and are the same at every validation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from urd.inspection.calibration import Calibration, GoodImage
from urd.inspection.scoring import Scorer
from urd.metrics import auroc, average_precision
from urd.networks.folding import InferenceNetworks
from urd.synthesis.corruption import corrupt, draw_corruption
from urd.system.seeding import generator
from urd.training.training_data import TrainingImages

MAX_IMAGES = 64
GOOD_DISTANCE = "good_distance"  # mean value of the maps of clean images
_BATCH = 8


@dataclass(frozen=True)
class SyntheticScores:
    """Image scores (N,) of clean and of corrupted images; maps and masks of the corrupted ones.

    `maps` is (N, H, W) float, `masks` (N, H, W) bool. `good_distance` is the mean of all maps of
    clean images.
    """

    clean: np.ndarray
    corrupted: np.ndarray
    maps: np.ndarray
    masks: np.ndarray
    good_distance: float = math.nan

    def summary(self) -> dict[str, float]:
        """Image AUROC of corrupted against clean images, and pixel AP; only if defined."""
        found = {
            "synthetic_image_auroc": auroc(self.clean, self.corrupted),
            "synthetic_pixel_ap": average_precision(self.maps[~self.masks], self.maps[self.masks]),
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}


class SyntheticValidation:
    """A fixed set of good images and their corrupted copies, for scoring a model."""

    def __init__(self, data: TrainingImages, seed: int) -> None:
        self.data = data
        count = min(len(data.images), MAX_IMAGES)
        self.corruption = draw_corruption(
            None if data.foreground is None else data.foreground[:count],
            (data.images.shape[2], data.images.shape[3]),
            count,
            len(data.textures),
            generator(seed, "validation"),
            data.images.device,
        )

    @torch.no_grad()
    def score(self, networks: InferenceNetworks, scorer: Scorer) -> SyntheticScores:
        """Score all images of the set."""
        draw = self.corruption
        clean_scores, corrupted_scores, maps, clean_means = [], [], [], []
        for start in range(0, len(draw.mask), _BATCH):
            part = slice(start, min(start + _BATCH, len(draw.mask)))
            clean = self.data.images[part].float() / 255
            textures = self.data.textures[draw.texture_index[part]].float() / 255
            mask, blend = draw.mask[part], draw.blend[part]
            corrupted = corrupt(clean, textures, type(draw)(mask, draw.texture_index[part], blend))
            roi = None if self.data.roi is None else self.data.roi[part]
            of_clean, scores = _scored(networks, scorer, clean, roi)
            clean_scores.append(scores)
            clean_means.append(of_clean.flatten(1).mean(dim=1))
            found, scores = _scored(networks, scorer, corrupted, roi)
            maps.append(found)
            corrupted_scores.append(scores)
        return SyntheticScores(
            torch.cat(clean_scores).cpu().numpy(),
            torch.cat(corrupted_scores).cpu().numpy(),
            torch.cat(maps).cpu().numpy(),
            draw.mask[:, 0].bool().cpu().numpy(),
            float(torch.cat(clean_means).double().mean()),
        )


@torch.no_grad()
def calibrate_on(
    networks: InferenceNetworks, scorer: Scorer, data: TrainingImages, source: str
) -> Calibration:
    """The calibration from good images that training did not see."""
    images: list[GoodImage] = []
    for start in range(0, len(data.images), _BATCH):
        part = slice(start, start + _BATCH)
        roi = None if data.roi is None else data.roi[part]
        maps, scores = _scored(networks, scorer, data.images[part].float() / 255, roi)
        rois = [None] * len(maps) if roi is None else list(roi.cpu().numpy())
        images += map(GoodImage.of, scores.tolist(), maps.cpu().numpy(), rois)
    return Calibration.of(images, source)


def _scored(
    networks: InferenceNetworks, scorer: Scorer, images: Tensor, roi: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Maps and scores of images (B, 3, H, W) in [0, 1]."""
    maps, scores = scorer(networks(images), (images.shape[2], images.shape[3]), roi)
    return maps, scores
