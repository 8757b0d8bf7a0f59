"""The anomaly map against scipy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from urd.inspection.calibration import pixel_statistic
from urd.inspection.score import Score
from urd.inspection.scoring import (
    Scorer,
    cosine_distance,
    gaussian_blur,
    image_score,
    level_distances,
)
from urd.networks.memory_bank import MemoryBank, features_of_places


@pytest.mark.parametrize("size", [(64, 64), (40, 96), (5, 9), (1, 3)])
def test_blur_is_scipys_default(size):
    maps = torch.rand(2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = np.stack([gaussian_filter(m, 4.0) for m in maps.numpy()])
    np.testing.assert_allclose(gaussian_blur(maps).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(gaussian_blur(maps.float()).numpy(), expected, atol=1e-6)


def _align_corners(small: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation whose first and last samples lie on the corners, by hand."""
    out = np.empty(size)
    for i, j in np.ndindex(size):
        y = i * (small.shape[0] - 1) / (size[0] - 1)
        x = j * (small.shape[1] - 1) / (size[1] - 1)
        y0, x0 = min(int(y), small.shape[0] - 2), min(int(x), small.shape[1] - 2)
        dy, dx = y - y0, x - x0
        square = small[y0 : y0 + 2, x0 : x0 + 2]
        out[i, j] = np.array([1 - dy, dy]) @ square @ np.array([1 - dx, dx])
    return out


def test_blurred_map_and_score_by_hand():
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 16, 8), (2, 6, 8, 4), (2, 8, 4, 2))
    teacher = [torch.randn(s, generator=generator) for s in shapes]
    student = [torch.randn(s, generator=generator) for s in shapes]
    expected = np.zeros((2, 64, 32))
    for t, s in zip(teacher, student, strict=True):
        a, b = t.double().numpy(), s.double().numpy()
        cosine = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
        expected += np.stack([_align_corners(1 - c, (64, 32)) for c in cosine])
    expected = np.stack([gaussian_filter(m, 4.0) for m in expected])
    maps, scores = Scorer()((teacher, student), (64, 32))
    np.testing.assert_allclose(maps.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(scores.numpy(), expected.max((1, 2)), atol=1e-6)


def test_weights_of_levels_and_memory_and_the_mean_of_the_highest_values():
    random = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 16, 8), (2, 6, 8, 4), (2, 8, 4, 2))
    teacher = [torch.randn(s, generator=random) for s in shapes]
    student = [torch.randn(s, generator=random) for s in shapes]
    bank = MemoryBank.of(torch.randn(5, 14, generator=random))
    size = (64, 32)

    def maps(**weights):
        return Scorer(Score(**weights), bank)((teacher, student), size)[0]

    alone = [maps(levels=levels) for levels in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))]
    memory = maps(levels=(0.0, 0.0, 0.0), memory=1.0)
    found, scores = Scorer(Score(levels=(0.5, 2.0, 0.0), memory=3.0, top=0.01), bank)(
        (teacher, student), size
    )
    torch.testing.assert_close(found, 0.5 * alone[0] + 2 * alone[1] + 3 * memory)
    highest = np.sort(found.numpy().reshape(2, -1))[:, -20:]  # 1 % of 2,048 pixels
    np.testing.assert_allclose(scores.numpy(), highest.mean(1), rtol=1e-6)
    assert torch.equal(image_score(found, 1e-9), found.flatten(1).amax(1))


@pytest.mark.parametrize("distance", ["weighted", "squared"])
def test_distances_that_weigh_places_like_the_loss_does(distance):
    random = torch.Generator().manual_seed(0)
    t, s = (torch.rand(2, 6, 5, 4, generator=random) for _ in range(2))
    (found,) = level_distances([t], [s], distance)
    a, b = t.double().numpy(), s.double().numpy()
    if distance == "weighted":
        length = np.sqrt((a**2).sum(1))
        cosine = (a * b).sum(1) / (length * np.sqrt((b**2).sum(1)))
        expected = (1 - cosine) * length / length.mean((1, 2), keepdims=True)
    else:
        norm = [np.sqrt((m**2).sum((1, 2, 3), keepdims=True)) for m in (a, b)]
        expected = 10 * ((a / norm[0] - b / norm[1]) ** 2).sum(1)
        whole = (a * b).sum((1, 2, 3)) / (norm[0] * norm[1]).ravel()
        np.testing.assert_allclose(found.mean((1, 2)), 1 - whole, rtol=1e-5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_distance_to_the_nearest_feature_against_float64():
    random = torch.Generator().manual_seed(0)
    levels = [50 + torch.randn(2, c, s, s, generator=random) for c, s in ((3, 16), (4, 8), (5, 4))]
    places = features_of_places(levels)
    assert places.shape == (2, 8, 8, 9)
    bank = torch.cat([torch.randn(30, 9, generator=random) + 50, places[0, 3, 5][None] + 1e-3])
    shifted = places.double().numpy()[:, :, :, None] - bank.double().numpy()
    expected = np.sqrt((shifted**2).sum(-1)).min(-1)
    np.testing.assert_allclose(MemoryBank.of(bank)(levels).numpy(), expected, rtol=1e-4, atol=1e-3)


def test_features_of_places_are_means_of_what_is_around():
    fine, coarse = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 8, 8)
    fine[0, 0, 0, 0], coarse[0, 0, 4, 4] = 1, 1
    found = features_of_places([torch.zeros(1, 1, 32, 32), fine, coarse])[0]
    assert found[:2, :2, 0].numpy() == pytest.approx(1 / 9)  # outside are zeros
    assert not found[2:, :, 0].any() and not found[:, 2:, 0].any()
    assert found[8:10, 8:10, 1].numpy() == pytest.approx(1 / 9)


def test_cosine_distances_against_float64_and_of_zero_features():
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 16, 5, 4, generator=random) for _ in range(2))
    b[0] = a[0] * 3 + 1e-3 * b[0]  # nearly parallel
    a[1, :, 0, 0] = 0
    x, y = a.double(), b.double()
    expected = 1 - (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1)).clamp_min(1e-30)
    found = cosine_distance(a, b)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-10)
    assert found[1, 0, 0] == 1
    assert cosine_distance(torch.zeros_like(a), torch.zeros_like(a)).eq(1).all()


def test_a_share_of_the_inspected_pixels_lies_above_the_pixel_quantile():
    maps = torch.rand(3, 60, 50, generator=torch.Generator().manual_seed(0))
    roi = torch.zeros(3, 60, 50, dtype=torch.bool)
    roi[0, :40], roi[1, :, :7], roi[2, 5, 5] = True, True, True
    inside = maps * roi
    found = [pixel_statistic(m.numpy(), r.numpy()) for m, r in zip(inside, roi, strict=True)]
    for value, values, count in zip(found, inside, (2, 0, 0), strict=True):
        assert (values > value).sum() == count  # 0.1 % of 2,000, 420 and 1
    assert found[2] == maps[2, 5, 5]
    whole = np.ones((60, 50), bool)
    assert pixel_statistic(maps[0].numpy()) == pixel_statistic(maps[0].numpy(), whole)
