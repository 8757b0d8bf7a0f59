"""The anomaly map against scipy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from urd.export.graph import distance_of_units
from urd.inspection.calibration import pixel_statistic
from urd.inspection.scoring import (
    anomaly_map,
    gaussian_blur,
    image_score,
)
from urd.networks.cosine import cosine_distance


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
    maps = anomaly_map(teacher, student, (64, 32))
    np.testing.assert_allclose(maps.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(image_score(maps).numpy(), expected.max((1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    ("distance", "rtol", "atol"),
    [(cosine_distance, 0, 5e-7), (distance_of_units, 1e-4, 1e-10)],
)
def test_cosine_distances_against_float64_and_of_zero_features(distance, rtol, atol):
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 16, 5, 4, generator=random) for _ in range(2))
    b[0] = a[0] * 3 + 1e-3 * b[0]  # nearly parallel
    a[1, :, 0, 0] = 0
    x, y = a.double(), b.double()
    expected = 1 - (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1)).clamp_min(1e-30)
    found = distance(a, b)
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=atol)
    assert found[1, 0, 0] == 1
    assert distance(torch.zeros_like(a), torch.zeros_like(a)).eq(1).all()


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
