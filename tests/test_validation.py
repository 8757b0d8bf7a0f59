"""Validation on held-out images: fixed by the seed, and better for a network that sees defects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import networks_of

from urd.inspection.calibration import pixel_statistic
from urd.inspection.scoring import Scorer
from urd.networks.folding import InferenceNetworks
from urd.training.training_data import TrainingImages
from urd.training.validation import MAX_IMAGES, SyntheticScores, SyntheticValidation, calibrate_on


@pytest.fixture
def images():
    random = torch.Generator().manual_seed(0)
    good = torch.randint(0, 256, (10, 3, 64, 64), dtype=torch.uint8, generator=random)
    return TrainingImages(good, good.flip(0), None)


@pytest.fixture
def model(tiny_config):
    return InferenceNetworks(networks_of(tiny_config).model, "float32")


def test_the_same_images_are_corrupted_every_time(images, model):
    first, second = (SyntheticValidation(images, seed=3).score(model, Scorer()) for _ in range(2))
    assert np.array_equal(first.masks, second.masks)
    assert np.array_equal(first.corrupted, second.corrupted)
    other = SyntheticValidation(images, seed=4).score(model, Scorer())
    assert not np.array_equal(first.masks, other.masks)


def test_no_more_images_than_needed(images):
    many = TrainingImages(images.images.repeat(8, 1, 1, 1), images.textures, None)
    assert len(SyntheticValidation(many, seed=0).corruption.mask) == MAX_IMAGES


def test_the_summary_is_auroc_and_average_precision():
    clean, corrupted = np.array([0.1, 0.2]), np.array([0.3, 0.4])
    masks = np.zeros((2, 4, 4), bool)
    masks[:, :2] = True
    scores = SyntheticScores(clean, corrupted, masks.astype(np.float32), masks)
    assert scores.summary() == {"synthetic_image_auroc": 1.0, "synthetic_pixel_ap": 1.0}
    nothing = SyntheticScores(clean, corrupted, masks.astype(np.float32), np.zeros_like(masks))
    assert nothing.summary() == {"synthetic_image_auroc": 1.0}  # no pixel is corrupted


def test_a_calibration_holds_the_scores_of_the_images(images, model):
    calibration = calibrate_on(model, Scorer(), images, "held-out")
    assert len(calibration.scores) == len(calibration.pixels) == 10
    with torch.no_grad():
        maps, scores = Scorer()(model(images.images[:1].float() / 255), (64, 64))
    assert min(abs(s - float(scores[0])) for s in calibration.scores) < 1e-5
    pixel = pixel_statistic(maps[0].numpy())
    assert min(abs(p - pixel) for p in calibration.pixels) < 1e-5


def test_pixels_outside_of_the_roi_do_not_count(images, model):
    roi = torch.zeros(10, 64, 64, dtype=torch.bool)
    roi[:, :8, :8] = True
    inside = TrainingImages(images.images, images.textures, None, roi)
    everywhere = calibrate_on(model, Scorer(), images, "x")
    assert max(calibrate_on(model, Scorer(), inside, "x").scores) <= max(everywhere.scores)
